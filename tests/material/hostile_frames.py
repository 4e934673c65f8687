"""Frames that libjpeg does not come back from."""

from tests.material.jpeg_encoder import Form, encode, picture

ROWS, COLUMNS = 9, 14


def open_rows(say_so: bool = False) -> bytes:
    """A JPEG Lossless SV1 frame whose header leaves the number of rows open, without a DNL: libjpeg
    looks for the end of such an image for ever. `say_so`: with the bytes of a DNL in a comment,
    so that a look for them does not tell."""
    made = bytearray(encode(picture(ROWS, COLUMNS, 1, 12), Form(12)))
    header = made.index(b"\xff\xc3")
    made[header + 5 : header + 7] = b"\0\0"
    if not say_so:
        return bytes(made)
    scan = made.index(b"\xff\xda")
    return bytes(made[:scan] + b"\xff\xfe\0\x08\xff\xdc\0\x04\0\x09" + made[scan:])
