"""What lies in the tree and is none of ours, at any depth, under any name: said, and then done."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.files.tree import StoreTree, instance_path
from engine.index.writer import IndexWriter
from engine.verify.findings import FindingKind
from engine.verify.repair import Action, apply_actions, await_result, leave_request, serve_requests
from engine.verify.verify import Verifier
from tests.rigs.index_entries import check_whole
from tests.rigs.two_patients import Stored, file_bytes, lay
from tools.commands import verify as verify_command
from tools.face.terminal import Exit

DEPTHS = ("", "a/", "a/b/", "00/1.2/3/4/5/", "with space/ümlaut/")
NAMES = ("1.9.dcm", "no suffix", "-.dcm", os.fsdecode(b"\xff\xfe.dcm"), "x.dcm.new")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[IndexWriter]:
    with closing(IndexWriter(tmp_path)) as made:
        yield made


def kinds(writer: IndexWriter, data: Path) -> list[FindingKind]:
    return [one.kind for one in Verifier(data, writer.reader()).run(pause_s=0).findings]


def repaired(writer: IndexWriter, data: Path) -> list[bool]:
    """By way of a request, as when the service runs."""
    findings = Verifier(data, writer.reader()).run(pause_s=0).findings
    request = leave_request(data, [one.action for one in findings if one.action is not None])
    serve_requests(data, writer, StoreTree(data))
    return [outcome.done for outcome in await_result(request, 1)]


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_is_no_instance_is_set_aside(writer: IndexWriter, tmp_path: Path, depth: str) -> None:
    directory = tmp_path / "store" / depth
    directory.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (directory / name).write_text(name.encode("utf-8", "replace").decode())
    (directory / "link").symlink_to("/etc/passwd")
    (directory / "outside").symlink_to("/etc")
    os.mkfifo(directory / "pipe")
    count = len(NAMES) + 3
    assert kinds(writer, tmp_path) == [FindingKind.FOREIGN] * count
    assert repaired(writer, tmp_path) == [True] * count
    assert kinds(writer, tmp_path) == []
    aside = tmp_path / "set_aside" / depth
    assert sorted(os.listdir(aside)) == sorted([*NAMES, "link", "outside", "pipe"])
    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", NAMES[:-1])
def test_an_instance_is_taken_in_from_wherever_it_lies(
    writer: IndexWriter, tmp_path: Path, depth: str, name: str
) -> None:
    stored = Stored("1.4.1", "ANNA")
    (tmp_path / "store" / depth).mkdir(parents=True, exist_ok=True)
    (tmp_path / "store" / depth / name).write_bytes(file_bytes(stored))
    assert kinds(writer, tmp_path) == [FindingKind.UNKNOWN]
    assert repaired(writer, tmp_path) == [True]
    assert kinds(writer, tmp_path) == []
    assert (tmp_path / "store" / stored.plain_path).read_bytes() == file_bytes(stored)
    with writer.reader().view() as view:
        check_whole(view)
        assert view.count("instances") == 1


def test_what_was_set_aside_before_stays(writer: IndexWriter, tmp_path: Path) -> None:
    for text in ("first", "second"):
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / "store" / "x").write_text(text)
        assert repaired(writer, tmp_path) == [True]
    aside = tmp_path / "set_aside"
    assert [(aside / name).read_text() for name in ("x", "x.1")] == ["first", "second"]


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../index/data.mdb", "a/../../x", "a//b", "."])
def test_no_path_leads_out_of_the_tree(writer: IndexWriter, tmp_path: Path, path: str) -> None:
    (tmp_path / "store" / "a").mkdir(parents=True)
    (tmp_path / "x").write_text("stays")
    actions = [Action("adopt", path), Action("set_aside", path)]
    outcomes = apply_actions(writer, StoreTree(tmp_path), actions)
    assert [outcome.done for outcome in outcomes] == [False, False]
    assert (tmp_path / "x").read_text() == "stays"


def test_no_link_leads_out_of_the_tree(writer: IndexWriter, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.dcm").write_bytes(file_bytes(Stored("1.4.1", "ANNA")))
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(outside)
    actions = [Action("adopt", "link/x.dcm"), Action("set_aside", "link/x.dcm")]
    outcomes = apply_actions(writer, StoreTree(tmp_path), actions)
    assert [outcome.text for outcome in outcomes] == ["a link leads there"] * 2
    assert (outside / "x.dcm").exists()


def test_files_without_an_index_are_a_difference(tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(
            verify_command.command,
            arguments,
            env={"SCAI_DATA": str(tmp_path)},
            standalone_mode=False,
        )
        assert done.exception is None, done.output
        return done.return_value, done.output

    assert run() == (Exit.OK, "nothing was stored yet\n")
    lay(StoreTree(tmp_path), Stored("1.4.1", "ANNA"))
    lay(StoreTree(tmp_path), Stored("1.4.2", "ANNA"), "far/away/from/1.4.2.dcm")
    code, said = run()
    assert code == Exit.NEGATIVE
    assert "there is no index, but 2 files are in store/" in said
    code, said = run("--repair")
    assert code == Exit.NEGATIVE
    assert "repaired 2, left 0" in said
    assert run()[0] == Exit.OK
    assert (tmp_path / "store" / instance_path("1.2", "1.3", "1.4.2")).exists()
