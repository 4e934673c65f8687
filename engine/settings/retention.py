"""The settings of how long things are kept."""

from typing import Annotated, Final

from msgspec import Struct

from engine import limits
from engine.retention.choice import Policy, bytes_to_free
from engine.settings.entities import setting
from engine.settings.values import UNDELIVERED, WATERMARK

_DAY_NS: Final = 86_400_000_000_000
_UNITS: Final = {"MiB": limits.MIB, "GiB": limits.GIB, "TiB": limits.TIB}


class Retention(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long what was received is kept, and what is remembered of what was removed."""

    high_watermark: Annotated[
        str,
        setting(
            "How much of the file system may be in use, by whomever, before studies are removed by "
            "themselves. Empty: none ever is.",
            "watermark",
        ),
    ] = ""
    low_watermark: Annotated[
        str,
        setting("Down to how much is in use then. Needed with the high one.", "watermark"),
    ] = ""
    least_age_days: Annotated[
        int,
        setting(
            "Days for which a study is kept after its last instance came, whatever the disk says.",
            least=0,
            most=limits.tombstone_days_max,
        ),
    ] = limits.least_age_days_default
    most_age_days: Annotated[
        int,
        setting(
            "Days after which a study is removed though there is room, if it may go at all; 0: "
            "none is.",
            least=0,
            most=limits.tombstone_days_max,
        ),
    ] = 0
    undelivered: Annotated[
        str,
        setting(
            "What becomes of a study of which an instance was delivered to nobody, since no rule "
            "matched or somebody discarded its deliveries.",
            "undelivered",
        ),
    ] = "keep"
    tombstone_days: Annotated[
        int,
        setting(
            "Days for which it is remembered of a study that it was here: until when, who removed "
            "it and why, and where it had been delivered. `scai find --removed` shows it.",
            least=1,
            most=limits.tombstone_days_max,
        ),
    ] = limits.tombstone_days_default

    @property
    def policy(self) -> Policy:
        """What may go, and when."""
        after = UNDELIVERED.fullmatch(self.undelivered)
        return Policy(
            self.least_age_days * _DAY_NS,
            self.most_age_days * _DAY_NS if self.most_age_days else None,
            int(after[1]) * _DAY_NS if after is not None else None,
        )

    @property
    def evicts(self) -> bool:
        """Whether anything is ever removed by itself."""
        return bool(self.high_watermark or self.most_age_days)

    def bytes_to_free(self, total: int, used: int) -> int:
        """Of a file system of this size."""
        if not self.high_watermark:
            return 0
        high = watermark_bytes(self.high_watermark, total)
        return bytes_to_free(used, high, watermark_bytes(self.low_watermark, total))


def watermark_bytes(text: str, total: int) -> int:
    """A watermark of a file system of this size."""
    found = WATERMARK.fullmatch(text)
    assert found is not None, "the configuration was checked"
    if found[1]:
        return total * int(found[1]) // 100
    return int(found[2]) * _UNITS[found[3]]
