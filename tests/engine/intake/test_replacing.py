"""`replace`: whose instance may take the place of whose; what may not is kept, and told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.files.arrival import Arrival, encode_arrival
from engine.intake.replacing import may_replace
from engine.intake.step import Replacement, Step
from tests.rigs.indexer_box import LARGE, Box, data_set


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.close()


def store(box: Box, title: str, fill: bytes, size: int = 1000, patient: str = "") -> int:
    """An instance of always the same UID from somebody; its number in the journal."""
    box.received += 1
    received = box.received
    arrival = Arrival(
        "1.2.840.10008.5.1.4.1.1.2", "1.7", "1.2.840.10008.1.2.1", title, "SCP", "::1", received
    )
    sent = data_set("1.7", fill=fill, size=size, patient=patient)
    completion = box.spools["scp"].store(sent, prologue=encode_arrival(arrival))
    assert completion[2] == 0
    return completion[4]


def steps(box: Box) -> Step:
    """All there is, told as one."""
    told = Step()
    while True:
        step = box.intake.step(box.durable())
        told.replaced += step.replaced
        told.refused += step.refused
        told.missing += step.missing
        if not step.behind:
            return told


def aside(box: Box) -> dict[str, bytes]:
    """What was set aside, by its path in the data directory."""
    root = box.data / "set_aside"
    return {
        str(path.relative_to(box.data)): path.read_bytes()[-100:]
        for path in root.rglob("*")
        if path.is_file()
    }


def restarted(box: Box, policy: str) -> None:
    """As after kill -9."""
    box.crash()
    box.intake.replace = {"scp": policy}


@pytest.mark.parametrize(
    ("policy", "title", "may"),
    [
        ("always", "OTHER", True),
        ("always", "CT", True),
        ("same-sender", "CT", True),
        ("same-sender", "CT ", True),
        ("same-sender", "ct", False),
        ("same-sender", "OTHER", False),
        ("never", "CT", False),
        ("never", "OTHER", False),
    ],
)
def test_who_may(policy: str, title: str, may: bool) -> None:
    assert may_replace(policy, "CT", title) is may


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("policy", ["always", "same-sender", "never"])
def test_what_comes_of_each_policy(box: Box, policy: str, at_once: bool, size: int) -> None:
    """Of three, the second from the same sender, the third from another."""
    box.intake.replace = {"scp": policy}
    told = Step()
    for title, fill in (("CT", b"a"), ("CT", b"b"), ("OTHER", b"c")):
        store(box, title, fill, size)
        if not at_once:
            step = steps(box)
            told.replaced += step.replaced
            told.refused += step.refused
    if at_once:
        told = steps(box)
    stands = {"always": b"c", "same-sender": b"b", "never": b"a"}[policy]
    assert box.content("1.7").endswith(stands * 50)
    box.check()
    pairs = [(one.before, one.calling_ae_title) for one in told.replaced]
    refused = [(one.before, one.calling_ae_title) for one in told.refused]
    everybody = [("CT", "CT"), ("CT", "OTHER")]
    may = {"always": 2, "same-sender": 1, "never": 0}[policy]
    assert (pairs, refused) == (everybody[:may], everybody[may:])
    kept = aside(box)
    assert [one.path for one in told.refused] == sorted(kept)
    assert sorted(kept.values()) == [fill * 100 for fill in (b"b", b"c")[may:]]


def test_another_patients_is_no_replacement(box: Box) -> None:
    box.intake.replace = {"scp": "never"}
    store(box, "CT", b"a", patient="one")
    store(box, "OTHER", b"b", patient="two")
    told = steps(box)
    assert (told.replaced, told.refused, aside(box)) == ([], [], {})
    box.check()


@pytest.mark.parametrize("then", ["never", "same-sender", "always"])
@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_replay_gives_the_same(box: Box, then: str, size: int, checkpointed: bool) -> None:
    """Also where the operator has chosen otherwise meanwhile: what was refused stays so."""
    box.intake.replace = {"scp": "never"}
    store(box, "CT", b"a", size)
    steps(box)
    store(box, "OTHER", b"b", size)
    assert len(steps(box).refused) == 1
    kept = aside(box)
    if checkpointed:
        assert box.intake.checkpoint()
    restarted(box, then)
    told = steps(box)
    assert (told.replaced, told.refused, told.missing) == ([], [], [])
    assert aside(box) == kept
    assert box.content("1.7").endswith(b"a" * 50)
    store(box, "THIRD", b"c", size)
    told = steps(box)
    assert (len(told.replaced), len(told.refused)) == ((1, 0) if then == "always" else (0, 1))
    box.check()


def test_a_commit_that_failed_leaves_it_refused(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set aside before the position says so; the next try finds the same, and tells it."""
    box.intake.replace = {"scp": "never"}
    store(box, "CT", b"a")
    steps(box)
    number = store(box, "OTHER", b"b")
    with monkeypatch.context() as patched:

        def refuse(_: object) -> object:
            raise OSError(5, "Input/output error")

        patched.setattr(box.writer, "commit", refuse)
        with pytest.raises(OSError, match="Input/output"):
            steps(box)
    restarted(box, "never")
    told = steps(box)
    path = f"set_aside/scp/{number}-1.7.dcm"
    assert told.refused == [Replacement("scp", number, "1.7", "1.2", "CT", "OTHER", path)]
    assert [*aside(box)] == [path]
    assert box.content("1.7").endswith(b"a" * 50)


def test_it_is_durable_before_the_journal_lets_it_go(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.intake.replace = {"scp": "never"}
    store(box, "CT", b"a")
    steps(box)
    store(box, "OTHER", b"b")

    def refuse() -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(box.intake._aside, "sync", refuse)
        with pytest.raises(OSError, match="Input/output"):
            steps(box)
    restarted(box, "never")
    assert len(steps(box).refused) == 1


@pytest.mark.parametrize("policy", ["always", "same-sender", "never"])
def test_an_ae_that_is_configured_no_more_keeps_its_policy(box: Box, policy: str) -> None:
    """What it acknowledged is still in its journal, and is read after the next start."""
    box.intake.replace = {"scp": policy}
    store(box, "CT", b"a")
    steps(box)
    store(box, "OTHER", b"b")
    box.crash()
    box.intake.replace = {"prefetch_scp": "always"}
    told = steps(box)
    may = policy == "always"
    assert (len(told.replaced), len(told.refused)) == ((1, 0) if may else (0, 1))
    assert box.content("1.7").endswith((b"b" if may else b"a") * 50)
    assert len(aside(box)) == (0 if may else 1)


def test_a_policy_that_nobody_knows_lets_nothing_replace(box: Box) -> None:
    """Of an AE that was taken out before policies were kept, or whose index was lost."""
    store(box, "CT", b"a")
    store(box, "CT", b"b")
    box.intake.replace = {"prefetch_scp": "always"}
    told = steps(box)
    assert (told.replaced, len(told.refused)) == ([], 1)
    assert box.content("1.7").endswith(b"a" * 50)


def test_the_last_policy_is_the_one_that_is_kept(box: Box) -> None:
    for policy in ("always", "never", "same-sender"):
        box.intake.replace = {"scp": policy}
        steps(box)
    box.crash()
    box.intake.replace = {}
    store(box, "CT", b"a")
    store(box, "CT", b"b")
    store(box, "OTHER", b"c")
    told = steps(box)
    assert (len(told.replaced), len(told.refused)) == (1, 1)
