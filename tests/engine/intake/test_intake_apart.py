"""One SOP Instance UID under two patients: two files, two rows, whatever is interrupted."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.dictionary.patient_mark import patient_mark
from engine.intake.step import Apart
from tests.rigs.indexer_box import LARGE, Box, data_set

BERTA = patient_mark("BERTA", "")


@pytest.fixture
def make_box(tmp_path: Path) -> Iterator[Callable[..., Box]]:
    boxes: list[Box] = []

    def make(*names: str) -> Box:
        boxes.append(Box(tmp_path, names or ("scp",)))
        return boxes[-1]

    yield make
    for box in boxes:
        box.close()


@pytest.mark.parametrize("sizes", [(1000, 1000), (LARGE, LARGE), (1000, LARGE)])
@pytest.mark.parametrize("together", [True, False])
def test_each_keeps_a_file(
    make_box: Callable[..., Box], sizes: tuple[int, int], together: bool
) -> None:
    box = make_box()
    box.store("1.1", patient="ANNA", size=sizes[0])
    if not together:
        box.index()
    box.store("1.1", patient="BERTA", size=sizes[1])
    step = box.intake.step(box.durable())
    assert step.apart == [Apart("instance", "1.2", "1.1")]
    assert not step.replaced
    anna = data_set("1.1", patient="ANNA", size=sizes[0])
    assert box.content("1.1") == anna
    assert box.content("1.1", BERTA) == data_set("1.1", patient="BERTA", size=sizes[1])
    box.check()
    box.store("1.1", patient="BERTA", fill=b"2")  # her own, again: it takes her file's place
    assert box.index() == []
    assert box.content("1.1", BERTA) == data_set("1.1", patient="BERTA", fill=b"2")
    assert box.content("1.1") == anna
    box.crash()
    assert box.index() == []
    box.check()
    assert box.content("1.1") == anna


def test_without_a_study_uid_each_is_alone(make_box: Callable[..., Box]) -> None:
    box = make_box()
    for sop, patient in (("1.1", "ANNA"), ("1.2", "BERTA"), ("1.3", "ANNA")):
        box.store(sop, study="", patient=patient)
    assert box.index() == []
    box.check()
    with box.reader.view() as view:
        assert view.count("studies") == 3
        assert view.count("patients") == 2


def test_random_arrivals_and_crashes_mix_nothing_up(make_box: Callable[..., Box]) -> None:
    source = random.Random(7)
    box = make_box("scp", "other")
    latest: dict[tuple[str, str], bytes] = {}
    for number in range(120):
        sop, patient = source.choice(["1.1", "1.2"]), source.choice(["ANNA", "BERTA", ""])
        more = {
            "size": source.choice([900, LARGE]),
            "study": source.choice(["", "1.2", "1.3"]),
            "fill": bytes([number]),
            "patient": patient,
        }
        box.store(sop, source.choice(["scp", "other"]), **more)
        latest[sop, patient] = data_set(sop, **more)  # type: ignore[arg-type]
        assert box.index() == []
        if source.random() < 0.2:
            box.intake.checkpoint()
        if source.random() < 0.2:
            box.crash()
            assert box.index() == []
        box.check()
        with box.reader.view() as view:
            held = {
                (sop, owner): view.marks_of(sop)[patient_mark(owner, "")] for sop, owner in latest
            }
        assert {key: box.content(key[0], mark) for key, mark in held.items()} == latest
