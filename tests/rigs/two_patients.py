"""Files of two patients whose sender gives them the same UIDs, and an index that joined them.

`lay_out_release_0_2_0` makes a data directory as release 0.2.0 left it: the rows of its index were
written by that release (tests/material/index_0_2_0.json), the files are made here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import lmdb

from engine.files import part10
from engine.files.tree import StoreTree, instance_path
from engine.index.batch import Entry
from engine.verify.repair import read_entry
from tests.rigs.indexer_box import element

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
_ROWS = Path(__file__).parent.parent / "material" / "index_0_2_0.json"


class Stored(NamedTuple):
    """One file: of whom, under which UIDs."""

    sop: str
    patient: str
    study: str = "1.2"
    series: str = "1.3"
    issuer: str = ""
    pixels: bytes = b""

    @property
    def plain_path(self) -> str:
        return instance_path(self.study, self.series, self.sop)


def file_bytes(stored: Stored) -> bytes:
    """A whole CT file; its pixels say whose it is."""
    texts = (
        (0x00080018, b"UI", stored.sop),
        (0x00080060, b"CS", "CT"),
        (0x00100010, b"PN", f"{stored.patient}^NAME"),
        (0x00100020, b"LO", stored.patient),
        (0x00100021, b"LO", stored.issuer),
        (0x0020000D, b"UI", stored.study),
        (0x0020000E, b"UI", stored.series),
    )
    elements = b"".join(element(tag, vr, text.encode()) for tag, vr, text in texts if text)
    pixels = element(0x7FE00010, b"OW", stored.pixels or stored.patient.encode() * 20)
    return part10.part10_head(CT, stored.sop, EXPLICIT, "CT1") + elements + pixels


def lay(tree: StoreTree, stored: Stored, path: str = "") -> Entry:
    """Its file in the tree, and the entry that is made of it."""
    path = path or stored.plain_path
    Path(tree.prepare(path)).write_bytes(file_bytes(stored))
    return read_entry(tree, path)


# What release 0.2.0 was given, in this order. The first two stand in one study there, BERTA's; the
# next two in one without UIDs.
OF_RELEASE_0_2_0 = (
    Stored("1.4.1", "ANNA"),
    Stored("1.4.2", "BERTA"),
    Stored("1.5.1", "ANNA", "", ""),
    Stored("1.5.2", "BERTA", "", ""),
    Stored("1.6.1", "CARLA", "2.2", "2.3"),
)


def lay_out_release_0_2_0(data_directory: Path) -> None:
    """Its files and its index. BERTA's Patient ID was corrected to B2; CARLA's study description to
    CORRECTED, her series' to "of her series", her name to "Carla"; deliveries of 1.4.1 and 1.6.1
    to PACS wait."""
    tree = StoreTree(data_directory)
    for stored in OF_RELEASE_0_2_0:
        lay(tree, stored)
    tables: dict[str, list[list[str]]] = json.loads(_ROWS.read_text())
    (data_directory / "index").mkdir()
    environment = lmdb.open(str(data_directory / "index"), max_dbs=len(tables), map_size=1 << 24)
    with environment.begin(write=True) as transaction:
        for name, rows in tables.items():
            table = environment.open_db(name.encode(), transaction)
            for key, value in rows:
                transaction.put(bytes.fromhex(key), bytes.fromhex(value), db=table)
    environment.close()


def rows_of(path: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """The tables of an index as `lay_out_release_0_2_0` wants them."""
    environment = lmdb.open(str(path), max_dbs=64, readonly=True)
    with environment.begin() as transaction:
        names = [name for name, _ in transaction.cursor()]
        for name in names:
            table = environment.open_db(name, transaction, create=False)
            cursor = transaction.cursor(db=table)
            yield name.decode(), [[bytes(key).hex(), bytes(value).hex()] for key, value in cursor]
    environment.close()
