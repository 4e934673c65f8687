"""An indexer, its journals and its index in one directory, without a process."""

from pathlib import Path

from engine.files.arrival import Arrival, encode_arrival
from engine.index.environment import IndexReader
from engine.index.writer import IndexWriter
from engine.intake.intake import Intake
from engine.intake.step import Missing
from tests.rigs.index_entries import check_whole
from tests.rigs.spools import INLINE_BYTES, SpoolBox

LARGE = INLINE_BYTES + 5000


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little") + vr
    if vr == b"OW":
        return head + b"\0\0" + len(value).to_bytes(4, "little") + value
    return head + len(value).to_bytes(2, "little") + value


def data_set(
    sop: str, study: str = "1.2", size: int = 1000, fill: bytes = b"x", patient: str = ""
) -> bytes:
    return (
        element(0x00080018, b"UI", sop.encode())
        + (element(0x00100020, b"LO", patient.encode()) if patient else b"")
        + element(0x0020000D, b"UI", study.encode())
        + element(0x7FE00010, b"OW", fill * size)
    )


class Box:
    """One data directory with journals and an intake over them, as a service has."""

    def __init__(self, data_directory: Path, names: tuple[str, ...] = ("scp",)) -> None:
        self.data = data_directory
        self.spools: dict[str, SpoolBox] = {}
        for name in names:
            spool = SpoolBox(data_directory / "boxes" / name)
            for kind in ("journal", "incoming"):
                (data_directory / kind).mkdir(exist_ok=True)
                link = data_directory / kind / name
                if not link.exists():
                    link.symlink_to(data_directory / "boxes" / name / kind)
            self.spools[name] = spool
        self.received = 0
        self.open()

    def open(self) -> None:
        self.writer = IndexWriter(self.data)
        self.reader: IndexReader = self.writer.reader()
        self.intake = Intake(self.data, self.writer)

    def crash(self) -> None:
        """As kill -9 would: nothing is finished, everything is opened anew."""
        self.writer.close()
        self.open()

    def close(self) -> None:
        self.writer.close()
        for spool in self.spools.values():
            spool.close()

    def store(self, sop: str, name: str = "scp", **more: object) -> int:
        self.received += 1
        arrival = Arrival(
            "1.2.840.10008.5.1.4.1.1.2",
            sop,
            "1.2.840.10008.1.2.1",
            "CT",
            "SCP",
            "::1",
            self.received,
        )
        sent = data_set(sop, **more)  # type: ignore[arg-type]
        completion = self.spools[name].store(sent, prologue=encode_arrival(arrival))
        assert completion[2] == 0
        return completion[4]

    def durable(self) -> dict[str, int]:
        return {name: spool.spool.durable_sequence for name, spool in self.spools.items()}

    def index(self) -> list[Missing]:
        missing: list[Missing] = []
        while True:
            step = self.intake.step(self.durable())
            missing += step.missing
            if not step.behind:
                return missing

    def content(self, sop: str, mark: str = "") -> bytes:
        """What is stored of an instance, whose size and place the index must know."""
        with self.reader.view() as view:
            found = view.instance(sop, mark)
            assert found is not None, sop
            path = view.path_of(*found)
        stored = (self.intake.tree.root / path).read_bytes()
        assert len(stored) == found[1].file_bytes
        return stored[400:]

    def check(self) -> None:
        """The index in itself, and against the tree, both ways."""
        with self.reader.view() as view:
            check_whole(view)
            indexed = {
                view.path_of(*found)
                for _, instance in view.instances_after(b"", 10000)
                if (found := view.instance(instance.sop_instance_uid, instance.mark)) is not None
            }
        root = self.intake.tree.root
        stored = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        assert stored == indexed
