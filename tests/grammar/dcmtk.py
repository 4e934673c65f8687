"""DCMTK's word on a file: whether it reads it at all, and what it makes of it."""

import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from tests.grammar.cases import EXPLICIT, JPEG_LOSSLESS
from tests.grammar.reading import Node, Unread, read

DCMCONV: Final = "/usr/bin/dcmconv"
DCMDJPEG: Final = "/usr/bin/dcmdjpeg"
DCMDUMP: Final = "/usr/bin/dcmdump"
_together: Final = 100  # files of one dcmdump


def converted(content: bytes, syntax: str, target: str) -> Node | None:
    """What pydicom reads in what DCMTK makes of a file in another transfer syntax; None: DCMTK
    refuses, or nobody reads what it made."""
    with tempfile.TemporaryDirectory() as directory:
        source, made = Path(directory, "source.dcm"), Path(directory, "made.dcm")
        source.write_bytes(content)
        tool = DCMDJPEG if syntax in JPEG_LOSSLESS else DCMCONV
        to = "+te" if target == EXPLICIT else "+ti"
        command = [tool, "-q", to, str(source), str(made)]
        said = subprocess.run(command, capture_output=True, check=False, timeout=60)
        if said.returncode or not made.exists():
            return None
        try:
            return read(made.read_bytes())
        except Unread:
            return None


def unread(files: Iterable[tuple[int, bytes]]) -> Iterator[int]:
    """The keys of those that dcmdump does not read; many files in one process."""
    rows = iter(files)
    while batch := list(islice(rows, _together)):
        with tempfile.TemporaryDirectory() as directory:
            for index, (_, content) in enumerate(batch):
                Path(directory, str(index)).write_bytes(content)
            if _dumps([Path(directory, str(index)) for index in range(len(batch))]):
                continue
            for index, (key, _) in enumerate(batch):
                if not _dumps([Path(directory, str(index))]):
                    yield key


def _dumps(files: Sequence[Path]) -> bool:
    command = [DCMDUMP, "-q", *map(str, files)]
    said = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=120
    )
    return said.returncode == 0
