"""How a background process gives way: niceness, and a slice that fits what it does.

A niced process gets less of a core. Linux 6.12 and later also let it ask for slices of a certain
length. With a long slice its turn comes late, after those that peers wait for. With a short one it
comes early and often, and what it does for others in between is soon done. Older kernels refuse or
ignore it, and niceness alone has to do.
"""

import ctypes
import os
from typing import Final

_sched_setattr: Final = {"x86_64": 314, "aarch64": 274}
_sched_other: Final = 0


class _Attributes(ctypes.Structure):
    """struct sched_attr, version 0 (sched_setattr(2))."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("sched_policy", ctypes.c_uint32),
        ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32),
        ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64),
        ("sched_deadline", ctypes.c_uint64),
        ("sched_period", ctypes.c_uint64),
    )


def yield_to_others(nice: int, slice_us: int) -> bool:
    """Make this process give way. False: the kernel knows no slices; it is nice nevertheless."""
    os.nice(nice)
    number = _sched_setattr.get(os.uname().machine)
    if number is None:
        return False
    attributes = _Attributes(
        size=ctypes.sizeof(_Attributes),
        sched_policy=_sched_other,
        sched_nice=os.nice(0),
        sched_runtime=slice_us * 1000,
    )
    library = ctypes.CDLL(None, use_errno=True)
    # Process 0: the calling thread; threads made after it inherit.
    return bool(library.syscall(number, 0, ctypes.byref(attributes), 0) == 0)
