"""What a JPEG stream says of its frame, read before any decoder makes room for it.

Only the way to the frame header is walked (ITU-T T.81 B.2.2), in bounded steps. What cannot be read
is no answer: a decoder will say why.
"""

from typing import Final, NamedTuple

from engine import limits
from engine.errors import LocalError

_SOI: Final = b"\xff\xd8"
_DNL: Final = b"\xff\xdc"
_NO_FRAME: Final = frozenset({0xC4, 0xC8, 0xCC})  # DHT, JPG, DAC stand among the frame markers
_FRAMES: Final = (frozenset(range(0xC0, 0xD0)) - _NO_FRAME) | {0xF7}  # JPEG-LS: SOF55
_BARE: Final = frozenset({0x01, *range(0xD0, 0xD8)})  # without a length
_HEADER_BYTES: Final = 8


class FrameHeader(NamedTuple):
    """Of the first frame. `rows` 0: a DNL segment behind the first scan is to say it."""

    precision: int
    rows: int
    columns: int
    components: int
    end: int  # where the segment's fixed part ends


def read_frame_header(frame: bytes) -> FrameHeader | None:
    """The frame header; None where there is none to be found."""
    at = len(_SOI)
    if frame[:at] != _SOI:
        return None
    for _ in range(limits.jpeg_markers_max):
        while frame[at : at + 2] == b"\xff\xff":
            at += 1
        if len(frame) - at < 4 or frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker in _BARE:
            at += 2
            continue
        length = int.from_bytes(frame[at + 2 : at + 4], "big")
        body = frame[at + 4 : at + 2 + length]
        if marker in _FRAMES:
            if length < _HEADER_BYTES or len(body) < _HEADER_BYTES - 2:
                return None
            rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            return FrameHeader(body[0], rows, columns, body[5], at + 2 + length)
        at += 2 + length
    return None


def check_frame_header(frame: bytes, rows: int, columns: int, samples: int) -> None:
    """LocalError where the stream is plainly of another size than the data set says, or of none."""
    header = read_frame_header(frame)
    if header is None:
        return
    if header.rows == 0 and _DNL not in frame[header.end :]:
        # libjpeg looks for the end of such an image for ever, and keeps all that it makes of it.
        raise LocalError("its frame header leaves the number of rows open, and no DNL says it")
    said = (header.rows or rows, header.columns, header.components)
    if said != (rows, columns, samples):
        raise LocalError(f"is of {said} rows, columns, components")
