"""The HTTP endpoint: health in all its shades, metrics in both formats."""

import asyncio
import errno
import time

import httpx
import pytest
from starlette.applications import Starlette

from engine.telemetry.counters import CounterSegment
from engine.telemetry.metrics import Counter, Gauge, ProcessState
from tools.stats.stats import build_application


class Client:
    """Asks the application without a network between."""

    def __init__(self, application: Starlette) -> None:
        self._transport = httpx.ASGITransport(application)

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        async def once() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self._transport, base_url="http://stats"
            ) as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(once())

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.ask("GET", path, headers)


@pytest.fixture
def segment() -> CounterSegment:
    segment = CounterSegment.create(blocks=5)
    for name, role in (
        ("supervisor", "supervisor"),
        ("indexer", "indexer"),
        ("storage_scp", "receiver"),
        ("prefetch_scp", "receiver"),
        ("stats", "stats"),
    ):
        segment.note_state(segment.claim(name, role), ProcessState.READY)
    segment.block(0).set(Gauge.HEARTBEAT, time.monotonic_ns())
    return segment


@pytest.fixture
def client(segment: CounterSegment) -> Client:
    return Client(build_application(segment, "1.2"))


def test_ready_when_all_is_well(client: Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {
        "ready": True,
        "reasons": [],
        "processes": {
            "supervisor": "ready",
            "indexer": "ready",
            "storage_scp": "ready",
            "prefetch_scp": "ready",
        },
    }


@pytest.mark.parametrize(
    ("block", "state", "reason"),
    [
        (0, ProcessState.STARTING, "supervisor is starting"),
        (0, ProcessState.DRAINING, "supervisor is draining"),
        (2, ProcessState.STARTING, "storage_scp is starting"),
        (3, ProcessState.WAITING, "prefetch_scp is waiting"),
        (1, ProcessState.WAITING, "indexer died and waits to be started again"),
    ],
)
def test_not_ready_says_why(
    client: Client, segment: CounterSegment, block: int, state: ProcessState, reason: str
) -> None:
    segment.note_state(block, state)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == [reason]


def test_what_was_unconfigured_or_only_watches_does_not_matter(
    client: Client, segment: CounterSegment
) -> None:
    segment.note_state(3, ProcessState.ABSENT)
    segment.note_state(4, ProcessState.WAITING)
    segment.note_state(1, ProcessState.STARTING)  # receivers go on without the indexer
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert "prefetch_scp" not in answer.json()["processes"]


def test_faults_of_index_and_disk(client: Client, segment: CounterSegment) -> None:
    segment.block(1).set(Gauge.INDEX_FAULT, errno.ENOSPC)
    segment.block(1).set(Gauge.DISK_LOW, 1)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == [
        "the index cannot be written: ENOSPC",
        "the disk is nearly full: new instances are refused",
    ]
    segment.block(1).set(Gauge.INDEX_FAULT, 0)
    segment.block(1).set(Gauge.DISK_LOW, 0)
    assert client.get("/readyz").status_code == 200


def test_alive_as_long_as_the_supervisor_turns(client: Client, segment: CounterSegment) -> None:
    assert client.get("/livez").status_code == 200
    segment.block(0).set(Gauge.HEARTBEAT, time.monotonic_ns() - 11_000_000_000)
    answer = client.get("/livez")
    assert answer.status_code == 503
    assert answer.json() == {"alive": False}


def test_who_is_ending_says_so(segment: CounterSegment) -> None:
    client = Client(build_application(segment, "1.2", lambda: True))
    assert client.get("/livez").status_code == 503
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["the service is ending"]


def test_metrics_in_both_formats(client: Client, segment: CounterSegment) -> None:
    segment.block(2).add(Counter.STORED_INSTANCES, 3)
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    assert 'scai_stored_instances_total{ae="",process="storage_scp"} 3.0' in plain.text
    accept = {"accept": "application/openmetrics-text;version=1.0.0"}
    modern = client.get("/metrics", headers=accept)
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")


def test_nothing_else_is_served(client: Client) -> None:
    assert client.get("/").status_code == 404
    assert client.ask("POST", "/metrics").status_code == 405
