"""The service removes by itself what may go, and nothing else."""

import time
from contextlib import closing
from pathlib import Path

from engine.dictionary.patient_mark import mark_of
from engine.index.environment import open_index_reader
from engine.outbox.outbox import Outbox
from engine.outbox.records import NewDelivery
from engine.outbox.writer import OutboxWriter
from tests.material import samples
from tests.material.waiting import eventually
from tests.rigs.dcmtk_store import store
from tests.rigs.gateway import Gateway

# Every disk is above it.
ALWAYS_FULL = {"high_watermark": "2 MiB", "low_watermark": "1 MiB", "least_age_days": 0}


def was_delivered(gateway: Gateway, sop: str) -> None:
    """As if a sender had sent it."""
    with closing(open_index_reader(gateway.data)) as reader, reader.view() as view:
        ((series, instance),) = view.instances_of_uid(sop)
        study = view.study_of_series(series)
    patient = mark_of(study.patient_attributes)
    new = NewDelivery(
        "PACS", sop, instance.sop_class_uid, study.uid, "", "", 1, "rule", "", patient
    )
    now_ns = time.time_ns()

    def deliver(outbox: Outbox) -> None:
        number = outbox.enqueue(new, now_ns)
        outbox.lease("PACS", 1, now_ns)
        outbox.delivered(number, now_ns)

    with closing(OutboxWriter(gateway.data, create=False)) as writer:
        writer.commit(deliver)


def test_what_was_delivered_goes_and_the_rest_stays(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "gateway", {"retention": ALWAYS_FULL})
    delivered = samples.clone(samples.sample("ct-explicit"), tmp_path / "1.dcm")
    other = samples.clone(samples.sample("mr-explicit"), tmp_path / "2.dcm")
    try:
        gateway.start()
        store(gateway, delivered.path, other.path)
        assert set(gateway.find()) == {delivered.sop_instance, other.sop_instance}
        was_delivered(gateway, delivered.sop_instance)
        gateway.stop()
        gateway.start()  # it looks at the disk when it starts
        eventually(lambda: set(gateway.find()) == {other.sop_instance}, 30, "it has gone")
        agreed = gateway.command("verify", "--content")
        assert agreed.returncode == 0, agreed.stdout + agreed.stderr
        removed = gateway.command("find", "--removed")
        assert "removed by retention (delivered, or with its archive)" in removed.stdout
        counted = [
            count
            for name, count in gateway.metrics().items()
            if "evicted_studies_total" in name and 'reason="delivered"' in name
        ]
        assert counted == [1.0]
    finally:
        gateway.close()
