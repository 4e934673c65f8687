"""What a process has in hand, written where it outlives the process: who dies of it is known.

A page of a file below `run/`, mapped into memory: to note something is one store, and the kernel
keeps it when the process is killed. It says nothing after a power cut, or another end of the whole
machine, and is not meant to: nothing in hand is to be blamed for that. So it carries the boot it
was written in, and is forgotten after another.

A place is taken before the work and put down after it, also when the work failed in a way that was
foreseen. Where an exception of ours ends the process the place stays taken.
"""

import mmap
import os
import struct
from pathlib import Path
from typing import Final

_HEADER: Final = struct.Struct("<8s40s")
_MAGIC: Final = b"SCAIHND1"
_PLACE: Final = struct.Struct("<Q")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class InHand:
    """Places for numbers; 0: nothing. `left`: what a predecessor had in hand when it died."""

    def __init__(self, path: Path, places: int) -> None:
        """OSError: there is no such file to be had."""
        head = _HEADER.pack(_MAGIC, _boot())
        size = len(head) + places * _PLACE.size
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            before = os.pread(descriptor, size, 0)
            if before[: len(head)] != head:
                before = b""
            # Written, not only made longer: a page without a block on a full disk would kill us.
            os.pwrite(descriptor, head + bytes(size - len(head)), 0)
            os.ftruncate(descriptor, size)
            self._page = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        whole = before[len(head) : len(head) + (len(before) - len(head)) // 8 * 8]
        found = [number for (number,) in _PLACE.iter_unpack(whole)] if before else []
        self.left: tuple[int, ...] = (*found, *[0] * (places - len(found)))[:places]

    def take(self, place: int, number: int) -> None:
        """This is in hand from now on."""
        _PLACE.pack_into(self._page, _HEADER.size + place * _PLACE.size, number)

    def put_down(self, place: int) -> None:
        """Nothing is."""
        self.take(place, 0)

    def close(self) -> None:
        self._page.close()


def _boot() -> bytes:
    """Which boot of the machine this is; the same one every time where the kernel does not say."""
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        return b""
