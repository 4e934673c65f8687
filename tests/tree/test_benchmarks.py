"""The load generator and the comparison measure what they say: against foreign peers and a sink."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import orjson
import pytest
from libjpeg import decode
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, EnhancedCTImageStorage, MRImageStorage

from benchmarks import index_scale, load_plan, load_watch
from benchmarks.compare_report import markdown, ratios
from benchmarks.instances import NAMES, make
from benchmarks.load import acknowledged_uids
from benchmarks.load_plan import Plan, Target
from benchmarks.load_result import evaluate
from benchmarks.load_wire import image_of
from benchmarks.lossless_jpeg import encode
from benchmarks.native_build import program
from tests.material.waiting import free_ports, within

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def pynetdicom_scp(handle: Callable[[Any], int], **settings: Any) -> Iterator[int]:
    """A foreign storage SCP; its port."""
    ae = AE(ae_title="SCP_AE")
    for sop_class in (CTImageStorage, MRImageStorage, EnhancedCTImageStorage):
        ae.add_supported_context(sop_class, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70"])
    for name, value in settings.items():
        setattr(ae, name, value)
    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, handle)]
    )
    assert server is not None
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


def plan_for(port: int, *names: str, associations: int = 2, **more: Any) -> Plan:
    target = Target("127.0.0.1", port, associations=associations)
    images = tuple(make(name, 1, enhanced_frames=3) for name in names)
    return Plan((target,), images, tuple(range(len(images))), timeout_seconds=20, **more)


def test_a_foreign_peer_reads_every_kind_of_instance() -> None:
    received: list[tuple[str, Dataset]] = []
    lock = threading.Lock()

    def handle(event: Any) -> int:
        data = event.dataset
        data.file_meta = event.file_meta
        with lock:
            received.append((str(event.request.AffectedSOPInstanceUID), data))
        return 0

    with pynetdicom_scp(handle) as port:
        plan = plan_for(port, *NAMES, instances=10, series_instances=2)
        outcome = load_plan.run(plan)
    assert outcome.failures == {}
    assert evaluate(outcome).figures["instances"] == 10
    uids = [uid for uid, _ in received]
    assert len(set(uids)) == 10
    assert sorted(uids) == sorted(acknowledged_uids(plan, outcome))
    assert all(uid == data.SOPInstanceUID for uid, data in received)
    assert len({data.StudyInstanceUID for _, data in received}) == 2  # one for each association
    assert len({data.SeriesInstanceUID for _, data in received}) > 2
    enhanced = [data for _, data in received if data.get("NumberOfFrames") == 3]
    assert [len(data.PixelData) for data in enhanced] == [3 * 512 * 512 * 2] * 2
    still, packed = (
        next(data for _, data in received if str(data.file_meta.TransferSyntaxUID) == syntax
             and data.Rows == 512 and "NumberOfFrames" not in data)
        for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70")
    )  # fmt: skip
    assert numpy.array_equal(still.pixel_array, packed.pixel_array)


@pytest.mark.parametrize("bits", [2, 8, 12, 16])
def test_lossless_jpeg_is_bit_exact(bits: int) -> None:
    random = numpy.random.default_rng(bits)
    frame = random.integers(0, 1 << bits, (33, 47)).astype("u2")
    frame[0, :2] = 0, (1 << bits) - 1
    assert numpy.array_equal(decode(encode(frame, bits)).astype("u2"), frame)


@pytest.mark.parametrize("pdu_bytes", [4096, 16378, 65536])
@pytest.mark.parametrize("name", NAMES)
def test_the_wire_is_cut_as_the_standard_says(name: str, pdu_bytes: int) -> None:
    """Even fragments, no PDU over the limit, one last fragment, and the data set comes out."""
    instance = make(name, 1, enhanced_frames=3)
    image = image_of(instance, 5, pdu_bytes)
    wire = image.head + image.body * image.repeats + image.tail
    assert len(wire) == image.wire_bytes
    at, data, flags = 0, b"", []
    while at < len(wire):
        length = int.from_bytes(wire[at + 2 : at + 6])
        assert wire[at] == 4
        assert length <= pdu_bytes
        assert int.from_bytes(wire[at + 6 : at + 10]) == length - 4
        assert length % 2 == 0
        assert wire[at + 10] == 5
        flags.append(wire[at + 11])
        if len(flags) > 1:
            data += wire[at + 12 : at + 6 + length]
        at += 6 + length
    assert flags == [3, *[0] * (len(flags) - 2), 2]
    assert data.startswith(instance.data)
    assert len(data) == instance.payload_bytes == image.payload_bytes


def test_refusals_are_counted_by_status() -> None:
    with pynetdicom_scp(lambda _: 0xA700) as port:
        figures = evaluate(load_plan.run(plan_for(port, "tiny", instances=6))).figures
    assert figures["failures"] == {"status A700": 6}
    assert figures["instances"] == 0
    assert figures["begun_but_not_acknowledged"] == 6


def test_a_rejected_association_is_a_failure_with_a_name() -> None:
    with pynetdicom_scp(lambda _: 0, require_called_aet=True, ae_title="OTHER") as port:
        outcome = load_plan.run(plan_for(port, "tiny", instances=6, associations=1))
    assert set(outcome.failures) == {"rejected 1/1/7"}
    assert len(outcome.records) == 0


def test_nobody_listening_is_a_failure_with_a_name() -> None:
    (port,) = free_ports(1)
    outcome = load_plan.run(plan_for(port, "tiny", instances=2, associations=1))
    assert set(outcome.failures) == {"connect: Connection refused"}


def test_an_association_for_each_instance() -> None:
    associations = []

    def handle(event: Any) -> int:
        associations.append(event.assoc)
        return 0

    with pynetdicom_scp(handle) as port:
        plan = plan_for(port, "tiny", instances=5, association_per_instance=True)
        figures = evaluate(load_plan.run(plan)).figures
    assert figures["instances"] == 5
    assert len(set(map(id, associations))) == 5
    assert figures["association_set_up_ms"]["p50"] > 0


@contextmanager
def sink(mode: str, wire_bytes: int, directory: Path) -> Iterator[tuple[int, int]]:
    """(port, process) of a sink."""
    (port,) = free_ports(1)
    command = [str(program("sink")), mode, str(port), str(wire_bytes), str(directory)]
    with subprocess.Popen(command) as process:
        try:
            yield port, process.pid
        finally:
            process.kill()


def test_a_fixed_rate_is_kept_and_the_server_is_watched(tmp_path: Path) -> None:
    image = image_of(make("tiny", 1), 1, 16378)
    with sink("file", image.wire_bytes, tmp_path) as (port, pid):
        plan = plan_for(port, "tiny", instances=50, rate=100.0)
        with load_watch.Watch(pid) as watch:
            figures = evaluate(load_plan.run(plan), watch).figures
        assert load_watch.process_listening(port) == pid
        assert pid in load_watch.tree(pid)
    assert figures["instances"] == 50
    assert 0.45 < figures["seconds"] < within(5)
    assert watch.resident_peak > 100_000
    files = list(tmp_path.iterdir())
    assert [file.stat().st_size for file in files] == [image.wire_bytes] * 50
    assert len({file.read_bytes() for file in files}) == 50


def test_time_of_children_that_ended_is_counted() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    run = f"subprocess.run([sys.executable, '-c', {burn!r}])"
    code = f"import subprocess, sys\n{run}\nprint('ended', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ended\n"
            assert list(load_watch.tree(process.pid)) == [process.pid]
            # The kernel counts in hundredths; our own beginning takes a tenth at most.
            assert load_watch.cpu_seconds(process.pid) >= 0.4
        finally:
            process.kill()


def test_the_commands_work_together(tmp_path: Path) -> None:
    """A comparison of one sink, from the command line to the report, leaves nothing behind."""
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "benchmarks.compare", "--rounds", "1", "--workload", "tiny"]
    command += [
        "--peers",
        "sink-file",
        "--instances",
        "20",
        "--pause",
        "0",
        "--quiet",
        "0",
        "--server-core",
        "0",
    ]
    command += ["--sender-core", "0", "--directory", str(tmp_path), "--json", str(report)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    (figures,) = orjson.loads(report.read_bytes())["rounds"]["sink-file"]
    assert figures["instances"] == 20
    assert figures["failures"] == {}
    assert "| sink-file |" in said.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_ratios_are_made_within_a_round() -> None:
    def figures(rate: float) -> dict[str, Any]:
        latency = {"p99_ms": 10 / rate, "instances_per_second": rate, "latency_ms": {}}
        return latency | {"megabytes_per_second": rate, "server_cpu_seconds_per_gb": 1.0,
                          "server_rss_growth_bytes": 0,
                          "megabytes_per_second_until_on_disk": rate}  # fmt: skip

    rounds = {
        "ours-sync": [figures(rate) for rate in (300.0, 30.0, 900.0)],
        "storescp": [figures(rate) for rate in (100.0, 20.0, 300.0)],
    }
    found = {one["title"]: one for one in ratios(rounds)}
    speed = found["ours durable / storescp"]
    assert (speed["least"], speed["median"], speed["most"]) == (1.5, 3.0, 3.0)
    assert found["p99: ours durable / storescp"]["median"] == pytest.approx(1 / 3, abs=1e-3)
    text = markdown(
        {
            "rounds": rounds,
            "workload": "ct",
            "instances": 1,
            "associations": 5,
            "measured_rounds": 3,
            "machine": {"processor": "p", "cores": "2", "kernel": "k"},
            "filesystem": "ext4",
            "durable": {"ours-sync": "yes", "storescp": "no"},
            "commands": {},
            "errors": ["round 1: x"],
        }
    )
    assert "| ours durable / storescp | 3.00 | 1.50 | 3.00 |" in text
    assert "- round 1: x" in text


def test_an_index_of_any_size_is_measured(tmp_path: Path) -> None:
    first, second = index_scale.measure(tmp_path, [2, 3])
    assert (first["instances"], second["instances"]) == (100, 1000)
    for point in (first, second):
        assert point["inserts_per_second"] > 0
        assert point["find_study by UID, p99"] > 0
    assert second["file_bytes"] >= first["file_bytes"]
