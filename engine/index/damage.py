"""What is said of an index whose file cannot be read: by commands, the supervisor and `/readyz`.

LMDB maps its file into memory. Where that is shorter than its pages say, or the disk cannot read
it, the kernel sends SIGBUS to whoever reads: there is no error that could be caught.
"""

from typing import Final

INDEX_FILE: Final = "/index/data.mdb"  # the end of its path, wherever the data lie
INDEX_CUT: Final = (
    "index/data.mdb is cut short, or the disk cannot read it. Nothing that was stored is lost by "
    "that. Stop the service, move index/ away, start it, and run `scai verify --repair`: it takes "
    'the files into a new index (docs/operations.md, "If the index is damaged or lost")'
)
