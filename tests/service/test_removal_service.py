"""`scai remove` beside the running service, and a service that is killed while it removes."""

import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from engine.dictionary.patient_mark import mark_of
from engine.index import tombstones
from engine.index.environment import open_index_reader
from engine.removal.desk import await_outcome, leave_order
from engine.removal.orders import Order, Progress
from tests.material import samples
from tests.material.waiting import eventually
from tests.rigs.dcmtk_store import store
from tests.rigs.gateway import Gateway

COUNT = 30


@pytest.fixture
def filled(gateway: Gateway, tmp_path: Path) -> dict[str, dict[str, object]]:
    """A study of the running service."""
    ones = [
        samples.clone(samples.sample("ct-explicit"), tmp_path / f"{number}.dcm")
        for number in range(COUNT)
    ]
    store(gateway, *(one.path for one in ones))
    rows = gateway.find()
    assert len(rows) == COUNT
    return rows


def agreed(gateway: Gateway) -> None:
    answer = gateway.command("verify", "--content")
    assert answer.returncode == 0, answer.stdout + answer.stderr


def another(gateway: Gateway, last: int) -> int:
    """The indexer's pid, once it is not the last one's."""
    pid = gateway.processes().get("indexer", 0)
    return 0 if pid == last else pid


def counted(gateway: Gateway) -> float:
    metrics = gateway.metrics().items()
    return sum(count for name, count in metrics if "removed_instances_total" in name)


def test_a_study_is_removed_and_received_again(
    gateway: Gateway, filled: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    study = str(next(iter(filled.values()))["study_instance_uid"])
    refused = gateway.command("remove", "--study", study, "--who", "Ann", "--yes")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert f"{COUNT} were never delivered to anybody" in refused.stderr
    assert len(gateway.find()) == COUNT
    done = gateway.command("remove", "--study", study, "--who", "Ann", "--yes", "--force")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"removed {COUNT} instances" in done.stdout
    assert gateway.find() == {}
    agreed(gateway)
    assert [*(gateway.data / "store").rglob("*.dcm")] == []
    assert [*(gateway.data / "removals").iterdir()] == []
    eventually(lambda: counted(gateway) == COUNT, 10, "it is counted")
    store(gateway, tmp_path / "0.dcm")
    assert len(gateway.find()) == 1
    gateway.kill_everything()
    gateway.start()
    assert len(gateway.find()) == 1
    agreed(gateway)
    patient = str(next(iter(filled.values()))["patient_id"])
    gone = gateway.command("remove", "--patient", patient, "--who", "Ann", "--yes", "--force")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert "removed 1 study, 1 instance" in gone.stdout
    assert "tombstones: 1 erased" in gone.stdout
    assert gateway.find() == {}
    assert gateway.command("find", "--removed").returncode == 1
    agreed(gateway)


def test_an_order_outlives_the_indexer(
    gateway: Gateway, filled: dict[str, dict[str, object]]
) -> None:
    """Killed while the order waits, and again and again while it is carried out."""
    study = str(next(iter(filled.values()))["study_instance_uid"])
    with closing(open_index_reader(gateway.data)) as reader, reader.view() as view:
        ((number, _),) = view.studies_of_uid(study)
        record = view.study(number)
    assert record is not None
    patient = mark_of(record.patient_attributes)
    request = leave_order(gateway.data, Order("", "study", study, patient, "Ann", "", True))
    killed = 0
    for _ in range(3):
        pid = eventually(lambda last=killed: another(gateway, last), 30, "it is replaced")
        os.kill(pid, signal.SIGKILL)
        killed = pid
    eventually(lambda: not request.exists(), 60, "the order is carried out")
    outcome = await_outcome(request, lambda: False)
    assert (outcome.progress, outcome.instances) == (Progress.DONE, COUNT)
    gateway.wait_ready()
    assert gateway.find() == {}
    agreed(gateway)
    with closing(open_index_reader(gateway.data)) as reader, reader.view() as view:
        (stone,) = tombstones.tombstones_of_uid(view, study)
    assert (stone.instances, stone.whole) == (COUNT, True)
