"""The check of index against files: finds every kind of difference, and its remedies mend them."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.files import part10
from engine.files.tree import StoreTree, instance_path
from engine.index.batch import Batch
from engine.index.damage import IndexDamagedError
from engine.index.environment import View
from engine.index.writer import IndexWriter
from engine.verify.findings import FindingKind
from engine.verify.repair import (
    Action,
    apply_actions,
    await_result,
    leave_request,
    read_entry,
    serve_requests,
)
from engine.verify.verify import Verifier
from tests.rigs.index_entries import check_whole, study_number
from tests.rigs.indexer_box import data_set
from tools.commands import repairs
from tools.commands import verify as verify_command
from tools.face.terminal import Exit

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


class Store:
    """A data directory with an index and files that agree, until a test spoils them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.tree = StoreTree(data)
        self.writer = IndexWriter(data)

    def add(self, sop: str, study: str = "1.2", indexed: bool = True) -> str:
        """A file, and its row; the path."""
        path = instance_path(study, "", sop)
        head = part10.part10_head(CT, sop, EXPLICIT, "CT1")
        Path(self.tree.prepare(path)).write_bytes(head + data_set(sop, study))
        entry = read_entry(self.tree, path)
        assert entry.path == path
        if indexed:
            self.writer.commit(lambda batch: batch.put_instance(entry))
        return path

    def file(self, path: str) -> Path:
        return Path(self.tree.absolute(path))

    def kinds(self, content: bool = False) -> list[FindingKind]:
        return [finding.kind for finding in self.verify(content).report.findings]

    def verify(self, content: bool = False) -> Verifier:
        verifier = Verifier(self.data, self.writer.reader(), content)
        verifier.run(pause_s=0)
        return verifier

    def repair(self, content: bool = False) -> list[bool]:
        findings = self.verify(content).report.findings
        actions = [finding.action for finding in findings if finding.action is not None]
        return [outcome.done for outcome in apply_actions(self.writer, self.tree, actions)]

    def check(self) -> None:
        assert self.kinds(content=True) == []
        with self.writer.reader().view() as view:
            check_whole(view)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.writer.close()


def test_what_agrees_is_counted(store: Store) -> None:
    for i in range(5):
        store.add(f"1.{i}", study=f"1.{i % 2}")
    report = store.verify(content=True).report
    assert (report.instances, report.files, report.studies) == (5, 5, 2)
    assert report.checked_bytes == sum(
        path.stat().st_size for path in store.tree.root.rglob("*.dcm")
    )
    assert report.findings == []


def test_a_missing_file_is_found_and_its_row_goes(store: Store) -> None:
    store.add("1.1")
    store.file(store.add("1.2")).unlink()
    assert store.kinds() == [FindingKind.MISSING]
    assert store.repair() == [True]
    store.check()
    with store.writer.reader().view() as view:
        assert view.instance("1.2") is None
        assert view.instance("1.1") is not None


def test_an_unknown_file_is_taken_in(store: Store) -> None:
    path = store.add("1.1", indexed=False)
    assert store.kinds() == [FindingKind.UNKNOWN]
    assert store.repair() == [True]
    store.check()
    with store.writer.reader().view() as view:
        found = view.instance("1.1")
        assert found is not None
        assert found[1].transfer_syntax_uid == EXPLICIT
        assert found[1].calling_ae_title == "CT1"
        assert view.path_of(*found) == path


def test_a_file_in_the_wrong_place_is_taken_to_its_own(store: Store) -> None:
    path = store.add("1.1", indexed=False)
    wrong = "00/9.9/9.9/9.9.dcm"
    store.file(path).rename(store.tree.prepare(wrong))
    store.tree.remove(path)
    assert store.kinds() == [FindingKind.UNKNOWN]
    assert store.repair() == [True]
    assert store.tree.size(wrong) is None
    assert store.tree.size(path) is not None
    store.check()


def test_damaged_files_are_told_apart_and_kept(store: Store) -> None:
    short, changed = store.add("1.1"), store.add("1.2")
    store.file(short).write_bytes(store.file(short).read_bytes()[:-7])
    content = bytearray(store.file(changed).read_bytes())
    content[-3] ^= 1
    store.file(changed).write_bytes(content)
    assert store.kinds() == [FindingKind.WRONG_SIZE]
    assert store.kinds(content=True) == [FindingKind.WRONG_SIZE, FindingKind.WRONG_BYTES]
    assert store.repair(content=True) == []
    assert store.file(changed).read_bytes() == content


def test_stale_and_foreign_files_are_set_aside(store: Store) -> None:
    path = store.add("1.1")
    stale = instance_path("8.8", "", "1.1")
    Path(store.tree.prepare(stale)).write_bytes(store.file(path).read_bytes())
    foreign = instance_path("8.8", "", "7.7")
    store.file(foreign).write_bytes(b"no DICOM")
    leftover = path + ".new"
    store.file(leftover).write_bytes(b"half")
    assert sorted(store.kinds(), key=str) == [
        FindingKind.FOREIGN,
        FindingKind.FOREIGN,
        FindingKind.STALE,
    ]
    assert store.repair() == [True, True, True]
    store.check()
    for name in (stale, foreign, leftover):
        assert (store.data / "set_aside" / name).is_file()
    assert len(list(store.tree.root.rglob("*.dcm"))) == 1


def spoil_sums(batch: Batch) -> None:
    number = study_number(batch, "1.2")
    assert number is not None
    batch._load_study(number).instances += 3
    batch._load_series(1).file_bytes = 1
    batch._changed_studies.add(number)
    batch._changed_series.add(1)


def spoil_words(batch: Batch) -> None:
    for key, _ in list(batch.keys_from("words", b"")):
        batch._delete("words", key)


def spoil_lookup(batch: Batch) -> None:
    batch._put("sop_uids", b"u1.1", b"\0" * 12)


@pytest.mark.parametrize("spoil", [spoil_sums, spoil_words, spoil_lookup])
def test_contradicting_records_are_made_again(store: Store, spoil: Callable[[Batch], None]) -> None:
    store.add("1.1")
    store.add("1.2")
    store.writer.commit(spoil)
    findings = {kind for kind in store.kinds() if kind is FindingKind.RECORDS}
    assert findings == {FindingKind.RECORDS}
    assert all(store.repair())
    store.check()


def test_what_has_changed_meanwhile_is_left_alone(store: Store) -> None:
    path = store.add("1.1")
    actions = [
        Action("forget", path, "1.1"),
        Action("set_aside", path),
        Action("adopt", "../../etc/passwd"),
        Action("adopt", "00/../../x.dcm"),
        Action("set_aside", instance_path("1", "2", "3")),
        Action("recount", study_uid="no study"),
    ]
    outcomes = apply_actions(store.writer, store.tree, actions)
    assert [outcome.done for outcome in outcomes] == [False] * len(actions)
    assert apply_actions(store.writer, store.tree, [Action("adopt", path)])[0].done
    store.check()


def test_requests_are_carried_out_once(store: Store) -> None:
    path = store.add("1.1", indexed=False)
    (store.data / "repairs").mkdir()
    (store.data / "repairs" / "0.request.json").write_bytes(b"[{]")
    request = leave_request(store.data, [Action("adopt", path), Action("adopt", "nonsense")])
    assert serve_requests(store.data, store.writer, store.tree) == 1
    assert serve_requests(store.data, store.writer, store.tree) == 0
    outcomes = await_result(request, 1)
    assert [outcome.done for outcome in outcomes] == [True, False]
    store.check()


def run(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        verify_command.command, arguments, env={"SCAI_DATA": str(data)}, standalone_mode=False
    )


def test_the_command_without_a_service(store: Store) -> None:
    store.add("1.1", indexed=False)
    store.file(store.add("1.2")).unlink()
    hostile = store.tree.root / "hostile \x1b[31m\n.txt"
    hostile.write_bytes(b"")
    store.writer.close()
    found = run(store.data)
    assert found.return_value == Exit.NEGATIVE, found.exception
    assert "1 x the file of an indexed instance is gone" in found.stdout
    assert "nothing was changed" in found.stdout
    repaired = run(store.data, "--repair", "--content")
    assert repaired.return_value == Exit.NEGATIVE, repaired.exception
    assert "repaired 3, left 0" in repaired.stdout
    assert "hostile \\x1b[31m\\n.txt: not a DICOM file" in repaired.stdout
    assert "\x1b[31m" not in found.stdout + repaired.stdout
    assert not hostile.exists()
    agreed = run(store.data, "--content")
    assert agreed.return_value == Exit.OK
    assert "index and files agree" in agreed.stdout


def test_the_command_asks_a_running_indexer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader is shared here, since one process cannot open the index twice."""
    store.add("1.1", indexed=False)
    monkeypatch.setattr(repairs, "open_index_reader", lambda _: store.writer.reader())
    monkeypatch.setattr(type(store.writer.reader()), "close", lambda _: None)
    over = threading.Event()

    def serve() -> None:
        while not over.wait(0.02):
            serve_requests(store.data, store.writer, store.tree)

    indexer = threading.Thread(target=serve)
    indexer.start()
    try:
        repaired = run(store.data, "--repair")
    finally:
        over.set()
        indexer.join()
    assert repaired.return_value == Exit.NEGATIVE, repaired.exception
    assert "repaired 1, left 0" in repaired.stdout
    store.check()


def test_nothing_stored(tmp_path: Path) -> None:
    assert run(tmp_path).return_value == Exit.OK
    gone = tmp_path / "gone"
    assert "is not there" in str(run(gone, "--repair").exception)
    assert not gone.exists()


def test_a_file_that_cannot_be_synced_gets_no_row(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer's sync may never have come: the row would name what a power cut takes."""
    path = store.add("1.9", indexed=False)
    with monkeypatch.context() as patched:

        def fails(_: int) -> None:
            raise OSError(5, "Input/output error")

        patched.setattr("os.fsync", fails)
        (outcome,) = apply_actions(store.writer, store.tree, [Action("adopt", path)])
    assert not outcome.done
    assert "synced" in outcome.text
    assert store.kinds() == [FindingKind.UNKNOWN]
    (outcome,) = apply_actions(store.writer, store.tree, [Action("adopt", path)])
    assert outcome.done
    assert store.kinds() == []


def test_an_index_that_does_not_find_its_own_rows_is_damaged(store: Store) -> None:
    """One bit of a key: what stands beside it is there, and is not found by its name. A repair
    would put the row in again, and the others would stay away."""
    for number in range(10):
        store.add(f"1.{number}")
    store.check()
    store.writer.close()
    data = store.data / "index" / "data.mdb"
    content = data.read_bytes()
    assert b"u1.5" in content
    data.write_bytes(content.replace(b"u1.5", b"u1,5"))
    store.writer = IndexWriter(store.data)
    with pytest.raises(IndexDamagedError, match="out of order"):
        store.verify()


def test_a_row_that_a_search_passes_by_is_damage(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the page above says another beginning of it."""
    store.add("1.1")
    stored = View.stored

    def passes_by(view: View, table: str, key: bytes) -> bytes | None:
        return None if table == "sop_uids" else stored(view, table, key)

    monkeypatch.setattr(View, "stored", passes_by)
    with pytest.raises(IndexDamagedError, match="not found by its key"):
        store.verify()
