"""The settings of sending: routing rules, and how long deliveries are kept.

engine/settings/settings.py puts them together; what must hold between a rule and the rest of the
configuration is in engine/config/checks.py, the language of `when` in engine/rules/conditions.py.
"""

from typing import Annotated, Any, Final

from msgspec import Struct, field

from engine import limits
from engine.settings.entities import setting

# Origins of deliveries that are no rule: a person, and a local application that laid a file into a
# folder.
USER: Final = "user"
FOLDER: Final = "folder"


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One routing rule: instances of which all of `when` holds go to all of `to`."""

    name: Annotated[str, setting("What people call it; unique. The queue names it.", "name")]
    when: Annotated[
        dict[str, Any],
        setting(
            "The conditions, all of which must hold; see below. Empty: every instance that "
            "storage AEs receive from outside, not what arrives at `prefetch_scp`."
        ),
    ] = field(default_factory=dict)
    to: Annotated[
        tuple[str, ...],
        setting("Names of the remote AEs that matching instances are sent to.", "name"),
    ]


class Send(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The queue of deliveries to remote AEs."""

    associations: Annotated[
        int,
        setting(
            "How many associations may be open at once, to all remote AEs together. The "
            "conformance statement has five; more are a choice of the operator.",
            "",
            "4.2-30",
            least=1,
            most=limits.associations_most,
        ),
    ] = limits.associations_sending_max
    delivered_days: Annotated[
        int,
        setting(
            "Days for which a delivery that succeeded stays in the queue's history; 0: it is "
            "forgotten soon. Failed ones stay until somebody decides.",
            least=0,
            most=limits.delivered_days_max,
        ),
    ] = limits.delivered_days_default
    give_up_after_hours: Annotated[
        int,
        setting(
            "Hours for which what waits for a remote AE that cannot be reached is kept waiting, "
            "before it stays in the queue as failed; 0: for ever. Not reaching it uses no attempt. "
            "It must have been asked in vain for a good part of that time: a clock that is set "
            "forward gives nothing up.",
            least=0,
            most=limits.give_up_after_hours_max,
        ),
    ] = limits.give_up_after_hours_default
    retry_pause_s: Annotated[
        int,
        setting(
            "Seconds before the first of `retry_count` retries; each further one waits twice as "
            "long as the last, a little varied, up to an hour.",
            least=limits.retry_pause_s_min,
            most=limits.retry_pause_s_max,
        ),
    ] = limits.retry_pause_s_default
