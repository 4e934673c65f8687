"""The answer to a C-STORE that is like the last one: known as a whole, without being taken apart.

A peer's answers to the stores of one association differ in the message ID and the SOP Instance UID
and in nothing else. So one that was read in full and meant success says how the next will look.
Promises: yes only to bytes that are that answer with this store's own ID and UID; whatever differs
in one bit is left to be read in full. (Reading one in full takes about 60 us of Python, a tenth of
what sending half a megabyte costs.)
"""

import struct
from typing import Final

_MESSAGE_ID: Final = b"\0\0\x20\x01\x02\0\0\0"  # (0000,0120) with its length
_SOP_INSTANCE: Final = b"\0\0\0\x10"  # (0000,1000)
_ID: Final = struct.Struct("<H")


class ResponseTemplate:
    """What the last answer that meant success looked like."""

    __slots__ = ("_after", "_before", "_between", "_uid_bytes")

    def __init__(self) -> None:
        self._before = b""
        self._between = b""
        self._after = b""
        self._uid_bytes = -1  # -1: nothing was learned; 0: the answer names no instance

    def learn(self, answer: bytes, message_id: int, sop_instance_uid: str) -> None:
        """`answer` is one whole PDU that was read, answered this store, and said 0000."""
        self._uid_bytes = -1
        number = _MESSAGE_ID + _ID.pack(message_id)
        uid = _padded(sop_instance_uid)
        element = _SOP_INSTANCE + len(uid).to_bytes(4, "little") + uid
        if answer.count(number) != 1 or answer.count(_SOP_INSTANCE) != answer.count(element):
            return
        before, _, rest = answer.partition(number)
        between, named, after = rest.partition(element)
        if answer.count(element) > 1 or (not named and element in before):
            return
        self._before, self._between, self._after = before, between, after
        self._uid_bytes = len(uid) if named else 0

    def is_answer(self, data: bytes, message_id: int, sop_instance_uid: str) -> bool:
        """Whether these bytes, all that came, say that this store succeeded."""
        if self._uid_bytes < 0:
            return False
        expected = self._before + _MESSAGE_ID + _ID.pack(message_id) + self._between
        if self._uid_bytes:
            uid = _padded(sop_instance_uid)
            if len(uid) != self._uid_bytes:
                return False  # other lengths would stand in the headers
            expected += _SOP_INSTANCE + len(uid).to_bytes(4, "little") + uid
        return data == expected + self._after


def _padded(uid: str) -> bytes:
    value = uid.encode("ascii", "replace")
    return value + b"\0" if len(value) % 2 else value
