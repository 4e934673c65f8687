"""One frame through pylibjpeg-libjpeg, which nothing else imports: it is GPL v3.

libjpeg may loop for ever or take all memory over a few bytes: a frame header with an open number of
rows did both. So this runs in the process that `workers/decoding` starts for it, and nowhere else.
"""

from typing import Any, Final

import numpy
from libjpeg.utils import decode, get_parameters

from engine.errors import LocalError
from engine.pixels.transcode import Shape

_OUT_OF_MEMORY: Final = "'-2048'"  # libjpeg's JPGERR_OUT_OF_MEMORY


def decode_by_libjpeg(frame: bytes, shape: Shape) -> bytes:
    """The samples; the header is compared before libjpeg makes room for what that claims."""
    try:
        header = get_parameters(frame)
        said = (header["rows"], header["columns"], header["nr_components"])
        if said != (shape.rows, shape.columns, shape.samples):
            raise LocalError(f"is of {said} rows, columns, components")
        samples: Any = decode(frame)
    except (RuntimeError, ValueError) as error:
        if _OUT_OF_MEMORY in str(error):
            # Its own words for an allocation that failed: the limit met it there, not in Python.
            raise MemoryError from error
        raise LocalError(str(error)) from error
    if samples.dtype.itemsize * 8 > shape.bits_allocated:
        raise LocalError(f"has more than {shape.bits_allocated} bits")
    widened = samples.astype(numpy.dtype(f"<u{shape.bits_allocated // 8}"), copy=False)
    return bytes(widened.tobytes())
