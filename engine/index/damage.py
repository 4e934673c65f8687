"""An index that cannot be read, or contradicts itself: how it is found, and what is said of it.

LMDB maps its file into memory and believes what its pages say. Where the file is shorter, or the
disk cannot read it, the kernel sends SIGBUS to whoever reads; a damaged page makes LMDB fall, or
gives rows that are none, which is found where they are read (engine/index/rows.py).
"""

from typing import Final

from engine.errors import OperatorError

INDEX_FILE: Final = "/index/data.mdb"  # the end of its path, wherever the data lie
INDEX_CUT: Final = (
    "index/data.mdb is damaged or cut short, or the disk cannot read it. Nothing that was stored "
    "is lost by that. Stop the service and run `scai rebuild`: it makes a new index of the files "
    '(docs/operations.md, "If the index is damaged or lost")'
)


class IndexDamagedError(OperatorError):
    """What stands in the index is none of its rows. `found` says what, without any of its values:
    these may be anything, patients' names too."""

    def __init__(self, found: str) -> None:
        super().__init__(f"{INDEX_CUT}. Found: {found}")
