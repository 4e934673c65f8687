"""The settings of how long things are kept."""

from typing import Annotated

from msgspec import Struct

from engine import limits
from engine.settings.entities import setting


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long what was received is kept, and what is remembered of what was removed."""

    tombstone_days: Annotated[
        int,
        setting(
            "Days for which it is remembered of a study that it was here: until when, who removed "
            "it and why, and where it had been delivered. `scai find --removed` shows it.",
            least=1,
            most=limits.tombstone_days_max,
        ),
    ] = limits.tombstone_days_default
