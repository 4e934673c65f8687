"""What the tests of outgoing files share: the bytes that are sent, and what others see in them."""

import io
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from engine.files.part10 import part10_head
from engine.outgoing.original_attributes import Originals
from engine.outgoing.outgoing import FileRange, Frames, Outgoing, Piece, open_outgoing, parts
from engine.pixels.libjpeg import decode_by_libjpeg

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def pieces(
    outgoing: Outgoing, target_syntax: str, corrections: Mapping[int, str], **choices: Any
) -> Iterator[Piece]:
    """What parts() gives, with frames decoded. What parts() raises at once comes at once."""
    return _flat(parts(outgoing, target_syntax, corrections, **choices))


def _flat(given: Iterator[Piece | Frames]) -> Iterator[Piece]:
    for part in given:
        if isinstance(part, Frames):
            yield from part.decoded()
        else:
            yield part


def sent(
    path: Path,
    target: str,
    corrections: Mapping[int, str] | None = None,
    character_sets: tuple[str, ...] = (),
    originals: Originals | None = None,
) -> bytes:
    """The data set that goes out, as the sender puts its pieces together."""
    out = bytearray()
    with open_outgoing(path) as outgoing:
        for piece in pieces(
            outgoing,
            target,
            corrections or {},
            other=decode_by_libjpeg,
            character_sets=character_sets,
            originals=originals,
        ):
            if isinstance(piece, FileRange):
                assert piece.length > 0
                part = os.pread(outgoing.descriptor, piece.length, piece.offset)
                assert len(part) == piece.length
                out += part
            else:
                assert len(piece)
                out += piece
    return bytes(out)


def read_back(data_set: bytes, syntax: str) -> Dataset:
    """What pydicom sees in a data set that was sent."""
    return pydicom.filereader.read_dataset(io.BytesIO(data_set), syntax == IMPLICIT, True)


def dumped(data_set: bytes, syntax: str, directory: Path) -> str:
    """What dcmdump says of it; it must be able to read all of it without an error."""
    path = directory / "sent.dcm"
    path.write_bytes(part10_head("1.2.840.10008.5.1.4.1.1.2", "1.2.3", syntax, "T") + data_set)
    said = subprocess.run(
        ["/usr/bin/dcmdump", str(path)],
        capture_output=True,
        check=True,
        text=True,
        errors="replace",
    )
    assert "E: " not in said.stderr, said.stderr
    return said.stdout


def differences(
    one: Dataset, other: Dataset, ignored: frozenset[int] = frozenset(), where: str = ""
) -> list[str]:
    """Elements that differ, in words: by their bytes, and by VR unless one of the two has none of
    its own. Group lengths do not count. Both have just been read: their values are as they lie.
    OB, OW and US of one value are the same bytes, and often either is right."""
    left = {e for e in one._dict if e.element and e not in ignored}
    right = {e for e in other._dict if e.element and e not in ignored}
    found = [f"{where}{tag} is on one side only" for tag in left ^ right]
    for tag in sorted(left & right):
        raw = [getattr(each.get_item(tag), "value", None) for each in (one, other)]
        if not all(isinstance(each.get_item(tag), RawDataElement) for each in (one, other)):
            raw = [one[tag].value, other[tag].value]  # pydicom has needed it itself
        a, b = one[tag], other[tag]
        if a.VR == b.VR == "SQ":
            if len(a.value) != len(b.value):
                found.append(f"{where}{tag}: {len(a.value)} and {len(b.value)} items")
            for index, (x, y) in enumerate(zip(a.value, b.value, strict=False)):
                found += differences(x, y, ignored, f"{where}{tag}[{index}]")
            continue
        if (raw[0] or b"") != (raw[1] or b""):
            found.append(f"{where}{tag}: {raw[0]!r:.60} and {raw[1]!r:.60}")
        alike = set(a.VR.split(" or ")) & set(b.VR.split(" or ")) or {a.VR, b.VR} < {
            "OB",
            "OW",
            "US",
        }
        if not alike and not tag.is_private and "UN" not in (a.VR, b.VR):
            found.append(f"{where}{tag}: {a.VR} and {b.VR}")
    return found
