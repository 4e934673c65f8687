"""Why a message is refused: what MSA-1 and ERR say of it (HL7 v2.5.1, 2.9, 2.15.5, 2.15.8)."""

from enum import IntEnum
from typing import Literal

from engine.errors import PeerError

Answer = Literal["AA", "AE", "AR"]


class ErrorCode(IntEnum):
    """HL7 table 0357, as far as it is used."""

    REQUIRED_FIELD_MISSING = 101
    DATA_TYPE = 102
    TABLE_VALUE = 103
    UNSUPPORTED_MESSAGE = 200
    UNSUPPORTED_EVENT = 201
    UNSUPPORTED_PROCESSING = 202
    UNSUPPORTED_VERSION = 203
    UNKNOWN_KEY = 204
    INTERNAL = 207


class RefusedError(PeerError):
    """A message that changes nothing. `answer`: AE, its content is wrong or cannot be taken now;
    AR, it is not for us. `place`: the field, such as PID-3. The text never has a field's value."""

    def __init__(
        self, text: str, code: ErrorCode, place: str = "", answer: Literal["AE", "AR"] = "AE"
    ) -> None:
        super().__init__(f"{place}: {text}" if place else text)
        self.code = code
        self.place = place
        self.answer: Literal["AE", "AR"] = answer
