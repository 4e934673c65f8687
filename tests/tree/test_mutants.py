"""The planting of faults: what is noticed, what survives, and that nothing of it stays."""

from pathlib import Path

import pytest

from tests.mutants.__main__ import main, run
from tests.mutants.copied import ROOT, CopiedTree
from tests.mutants.listed import Fault, listed
from tests.mutants.planting import Fate, try_fault, unplanted

GATE_SAMPLE = 10


class Tree:
    """A directory whose tests say what a function says."""

    def __init__(self, root: Path, says: dict[str, int | None], builds: bool = True) -> None:
        self.root = root
        self.says = says
        self.builds = builds
        self.ran: list[tuple[str, ...]] = []
        self.restored = 0
        (root / "native").mkdir()
        for name in ("one", "native/one"):
            (root / name).write_text("value = 1\n")

    def restore_module(self) -> None:
        self.restored += 1

    def build(self) -> bool:
        return self.builds

    def pytest(self, arguments: list[str], seconds_max: float) -> int | None:
        self.ran.append(tuple(arguments))
        text = (self.root / "one").read_text() + (self.root / "native" / "one").read_text()
        return self.says.get("planted" if "2" in text else "plain")


def fault(file: str = "one", before: str = "value = 1", tests: tuple[str, ...] = ("a",)) -> Fault:
    return Fault("room", "name", file, before, "value = 2", tests)


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (1, Fate.NOTICED),
        (None, Fate.WITHOUT_END),
        (0, Fate.SURVIVED),
        (2, Fate.UNSOUND),
        (5, Fate.UNSOUND),
    ],
)
@pytest.mark.parametrize("file", ["one", "native/one"])
def test_a_fault_is_planted_judged_and_taken_out(
    tmp_path: Path, said: int | None, outcome: Fate, file: str
) -> None:
    tree = Tree(tmp_path, {"planted": said, "plain": 0})
    assert try_fault(tree, fault(file)) is outcome
    assert (tmp_path / file).read_text() == "value = 1\n"
    assert tree.ran == [("-x", "a")]
    assert tree.restored == file.startswith("native/")


def test_what_cannot_be_planted_or_built_is_told(tmp_path: Path) -> None:
    tree = Tree(tmp_path, {"planted": 1}, builds=False)
    assert try_fault(tree, fault(before="nowhere")) is Fate.MISPLACED
    (tmp_path / "twice").write_text("value = 1\nvalue = 1\n")
    assert try_fault(tree, fault("twice")) is Fate.MISPLACED
    assert try_fault(tree, fault("gone")) is Fate.MISPLACED
    assert try_fault(tree, fault("native/one")) is Fate.UNBUILT
    assert tree.restored == 1
    assert tree.ran == []


def test_tests_that_fail_anyway_say_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = Tree(tmp_path, {"planted": 1, "plain": 1})
    assert unplanted(tree, [fault(tests=("a", "b"))]) == {"a", "b"}
    assert run([fault()], tree) == 1  # type: ignore[arg-type]
    assert "1 faults: 1 UNSOUND" in capsys.readouterr().out
    tree.says = {"planted": 1, "plain": 0}
    assert run([fault()], tree) == 0  # type: ignore[arg-type]


def test_survivors_are_printed_with_their_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([fault()], Tree(tmp_path, {"planted": 0, "plain": 0})) == 1  # type: ignore[arg-type]
    assert "\nSURVIVED: room: one: name\n    a\n" in capsys.readouterr().out


def test_every_fault_of_the_lists_can_be_planted() -> None:
    """Whoever changes the code changes the list: each text stands in its file exactly once."""
    faults = listed()
    misplaced = [
        f"{one.file}: {one.name}"
        for one in faults
        if (ROOT / one.file).read_text().count(one.before) != 1 or one.before == one.after
    ]
    assert not misplaced
    assert not [
        one.name
        for one in faults
        for test in one.tests
        if not (ROOT / test.partition("::")[0]).exists()
    ]
    assert len({(one.file, one.name) for one in faults}) == len(faults)
    assert len(faults) >= 129


def test_rooms_and_samples_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "tls"]) == 0
    assert all(line.startswith("tls: ") for line in capsys.readouterr().out.splitlines())
    assert main(["--list", "--quick", "3"]) == 0
    first = capsys.readouterr().out
    assert main(["--list", "--quick", "3"]) == 0
    assert capsys.readouterr().out == first
    assert first.count("\n") == 3
    assert "native/" not in first


def test_a_copys_tests_and_their_processes_import_the_copy(tmp_path: Path) -> None:
    tree = CopiedTree(tmp_path)
    written = tree.root / "tests" / "test_where.py"
    written.write_text(
        "import subprocess, sys\n"
        "import engine, native._core\n"
        "def test_where():\n"
        "    say = 'import engine, native._core as c; print(engine.__file__, c.__file__)'\n"
        "    said = subprocess.run([sys.executable, '-c', say], capture_output=True, text=True)\n"
        "    for one in (engine.__file__, native._core.__file__, *said.stdout.split()):\n"
        f"        assert one.startswith({str(tree.root)!r}), one\n"
        "    assert len(said.stdout.split()) == 2\n"
    )
    assert tree.pytest([str(written)], 60) == 0


def test_ten_of_the_quick_ones_are_noticed() -> None:
    """The gate's sample, which is the same in every run; all of them: python -m tests.mutants."""
    assert main(["--quick", str(GATE_SAMPLE)]) == 0
