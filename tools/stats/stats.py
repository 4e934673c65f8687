"""The process behind `/metrics`, `/livez` and `/readyz`: reads the shared counters, owns nothing.

A worker like the others, with a listening socket of the supervisor's; it may be slow or die without
the service noticing. `/livez`: the supervisor turns its loop. `/readyz`: 200 while instances are
taken, else 503; the body says in JSON what keeps it, and what somebody should look after although
instances are taken (`warnings`). Neither paths nor query are looked at further.
"""

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import orjson
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engine import limits
from engine.index.damage import INDEX_CUT
from engine.telemetry.counters import BlockHead, CounterSegment
from engine.telemetry.metrics import Gauge, ProcessState
from tools.stats.collector import SegmentCollector
from tools.stats.outbox_collector import OutboxCollector
from tools.stats.protocol import TimedProtocol
from workers.frame.child import Child
from workers.frame.spec import StatsSpec

# Without them instances are taken all the same.
_not_receiving: Final = ("sender", "retriever", "hl7")


def health(segment: CounterSegment) -> tuple[bool, list[str], dict[str, str]]:
    """(whether instances are taken, what is wrong, each process's state)."""
    heads = [head for head in segment.heads() if head.role != "stats"]
    states = {
        head.name: head.state.name.lower()
        for head in heads
        if head.state is not ProcessState.ABSENT
    }
    reasons = [text for head in heads for text in _reasons(head, segment)]
    if segment.any_set(Gauge.INDEX_CUT):
        reasons.append(INDEX_CUT)
    return not reasons, reasons, states


def _reasons(head: BlockHead, segment: CounterSegment) -> Iterator[str]:
    block = segment.block(head.index)
    if head.role in ("supervisor", "receiver"):
        if head.state not in (ProcessState.READY, ProcessState.ABSENT):
            yield f"{head.name} is {head.state.name.lower()}"
    elif head.state is ProcessState.WAITING and head.role not in _not_receiving:
        yield f"{head.name} died and waits to be started again"
    if head.role == "receiver":
        fault = block.get(Gauge.JOURNAL_FAULT)
        if fault:
            yield f"the journal of {head.name} cannot be read: {errno.errorcode.get(fault, fault)}"
    if head.role == "indexer":
        fault = block.get(Gauge.INDEX_FAULT)
        if fault:
            yield f"the index cannot be written: {errno.errorcode.get(fault, fault)}"
        if block.get(Gauge.DISK_LOW):
            yield "the disk is nearly full: new instances are refused"


def warnings(segment: CounterSegment) -> list[str]:
    """What does not keep instances from being taken, but has to be looked after."""
    return [
        f"the journal of {head.name if head.role == 'receiver' else 'an AE that is gone'} was "
        "damaged: see the log (journal_damaged), scai verify, and damaged/ under it"
        for head in segment.heads()
        if head.role in ("receiver", "indexer")
        and segment.block(head.index).get(Gauge.JOURNAL_DAMAGE)
    ]


def is_alive(segment: CounterSegment) -> bool:
    heartbeat = segment.block(0).get(Gauge.HEARTBEAT)
    return time.monotonic_ns() - heartbeat < limits.heartbeat_starved_ms * 1_000_000


def build_application(
    segment: CounterSegment,
    version: str,
    is_ending: Callable[[], bool] = lambda: False,
    data_directory: Path | None = None,
) -> Starlette:
    """The HTTP application over a segment of counters, and the outbox in a data directory.
    `is_ending`: nobody writes them any more."""
    registry = CollectorRegistry()
    if data_directory is not None:
        # A scrape that reads an index that is cut would end us, and `/readyz` with us.
        registry.register(OutboxCollector(data_directory, lambda: segment.any_set(Gauge.INDEX_CUT)))
    registry.register(SegmentCollector(segment, version))

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    async def livez(_: Request) -> Response:
        alive = is_alive(segment) and not is_ending()
        return _answer(alive, {"alive": alive})

    async def readyz(_: Request) -> Response:
        ready, reasons, states = health(segment)
        if is_ending():
            ready, reasons = False, ["the service is ending", *reasons]
        body = {"ready": ready, "reasons": reasons, "processes": states}
        told = warnings(segment)
        return _answer(ready, {**body, "warnings": told} if told else body)

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/livez", livez),
            Route("/readyz", readyz),
        ]
    )


def _answer(good: bool, body: dict[str, object]) -> Response:
    return Response(orjson.dumps(body), 200 if good else 503, media_type="application/json")


class _Server(uvicorn.Server):
    """Signals are the worker frame's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(child: Child[StatsSpec]) -> None:
    """The role: serve until told to drain."""
    server = _Server(
        uvicorn.Config(
            build_application(
                child.segment,
                child.spec.version,
                child.draining.is_set,
                Path(child.spec.data_directory),
            ),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http=TimedProtocol,
            h11_max_incomplete_event_size=limits.stats_header_bytes_max,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            server_header=False,
        )
    )
    sockets = [socket.socket(fileno=number) for number in child.spec.listen_descriptors]

    async def end_when_draining() -> None:
        await child.draining.wait()
        server.should_exit = True

    ending = asyncio.create_task(end_when_draining())
    child.faults.watch(ending)
    child.ready()
    try:
        await server.serve(sockets=sockets)
    finally:
        ending.cancel()
