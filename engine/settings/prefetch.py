"""The settings of prefetching: which instance that arrives makes us ask which archive for what.

engine/settings/settings.py puts them together; what a rule makes of an instance is in
engine/prefetch/rules.py, the language of `when` in engine/rules/conditions.py.
"""

from typing import Annotated, Any, Literal

from msgspec import Struct, field

from engine import limits
from engine.settings.entities import setting


class QueryRetrieveScu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who queries and retrieves prior studies."""

    ae_title: Annotated[
        str, setting("Calling AE title of queries and retrievals.", "ae_title", "4.4-1")
    ] = "PrefetchAP"
    query_timeout_s: Annotated[
        int,
        setting(
            "Seconds to wait for each response of a query; then the association is aborted.",
            least=1,
            most=limits.query_timeout_s_max,
        ),
    ] = limits.query_timeout_s_default
    retrieve_timeout_s: Annotated[
        int,
        setting(
            "Seconds that a retrieval may go on without a response and without a byte arriving at "
            "`prefetch_scp`; then the association is aborted.",
            least=1,
            most=limits.retrieve_timeout_s_max,
        ),
    ] = limits.retrieve_timeout_s_default
    history_days: Annotated[
        int,
        setting(
            "Days for which a prefetch that has ended stays listed, failed ones too; 0: it is "
            "forgotten soon.",
            least=0,
            most=limits.prefetch_history_days_max,
        ),
    ] = limits.prefetch_history_days_default


class Prefetch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One prefetch rule: a study of which an instance fulfils `when` has its priors fetched."""

    name: Annotated[str, setting("What people call it; unique. The jobs name it.", "name")]
    when: Annotated[
        dict[str, Any],
        setting(
            "The conditions, all of which must hold, in the language of `rules`. What arrives at "
            "`prefetch_scp` never triggers."
        ),
    ] = field(default_factory=dict)
    archive: Annotated[
        str, setting("Name of the remote AE that is asked, and that moves to PrefetchAP.", "name")
    ]
    to: Annotated[
        tuple[str, ...],
        setting(
            "Names of the remote AEs that get the related studies: what arrives, and what was "
            "here already. None: they stay here.",
            "name",
        ),
    ] = ()
    level: Annotated[
        Literal["study", "series", "image"],
        setting(
            "What is retrieved in one go: a study of which nothing is here, a series, or an image. "
            "What is here is not moved again, but with its series where more than 32 images of "
            "that lack."
        ),
    ] = "study"
    modalities: Annotated[
        tuple[str, ...],
        setting("Studies with one of these in ModalitiesInStudy; none: of any.", "modality"),
    ] = ()
    within: Annotated[
        str,
        setting(
            "How far back from the arriving study's StudyDate (`90 days`, `18 months`, "
            '`5 years`); `""`: studies of any date.',
            "period",
        ),
    ] = ""
    at_most: Annotated[
        int,
        setting("Studies, the latest ones.", least=1, most=limits.prefetch_studies_max),
    ] = limits.prefetch_studies_default
    series_modalities: Annotated[
        tuple[str, ...],
        setting("Of these studies only series of these modalities; none: all.", "modality"),
    ] = ()
    quiet_s: Annotated[
        int,
        setting(
            "Seconds without a further matching instance after which the arriving study counts as "
            "complete and the archive is asked.",
            least=0,
            most=limits.prefetch_quiet_s_max,
        ),
    ] = limits.prefetch_quiet_s_default
    wait_at_most_s: Annotated[
        int,
        setting(
            "Seconds after the first matching instance at which it is asked in any case.",
            least=0,
            most=limits.prefetch_wait_s_max,
        ),
    ] = limits.prefetch_wait_s_default
    repeat_after_s: Annotated[
        int,
        setting(
            "Seconds for which the same study triggers no other prefetch by this rule, counted "
            "from the last one's end.",
            least=0,
            most=limits.prefetch_repeat_s_max,
        ),
    ] = limits.prefetch_repeat_s_default
