"""The supervisor's answers to `scai status` and `scai reload`: a line of JSON over a Unix socket.

The socket lies in the data directory's `run`, for the service's own user only (0600). A question is
at most a few bytes; who asks nothing in time is hung up on.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from engine import limits
from engine.errors import OperatorError
from engine.telemetry.counters import CounterSegment
from engine.telemetry.metrics import Gauge
from workers.frame.spec import AnySpec, Hl7Spec, ReceiverSpec, SenderSpec, StatsSpec
from workers.supervision.process import Supervised

SOCKET_NAME: Final = "control.sock"
_patience_s: Final = 2.0


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    role: str
    pid: int  # 0: none now
    state: str
    cores: list[int]
    placement: str  # the reason for these cores
    restarts: int
    uptime_s: float
    last_fault: str
    counters_block: int
    ae_title: str = ""
    address: str = ""
    port: int = 0
    associations: int = 0
    association_limit: int = 0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    version: str
    pid: int
    state: str
    uptime_s: float
    data_directory: str
    durability: str
    configuration: str  # the file, or "" for defaults
    reload_refused: str = ""  # why the last reload was, "" if it was not
    reload_refused_at: float = 0.0  # Unix seconds
    places: list[tuple[str, int]] = []  # addresses and ports that are listened on
    processes: list[ProcessStatus]


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a reload that was asked for."""

    refused: str = ""  # why nothing has changed; "": the new configuration is in use
    text: str = ""  # otherwise: who listens where from now on


def status_of(process: Supervised, counters: CounterSegment, now: float) -> ProcessStatus:
    """What there is to say of one process."""
    spec = process.spec
    block = counters.block(spec.counters_block)
    receives = isinstance(spec, ReceiverSpec)
    sends = isinstance(spec, SenderSpec)
    return ProcessStatus(
        name=spec.name,
        role=spec.role,
        pid=process.pid,
        state=process.state.name.lower(),
        cores=list(spec.cores),
        placement=process.reason,
        restarts=process.restarts,
        uptime_s=round(now - process.started, 3) if process.pid else 0.0,
        last_fault=process.fault,
        counters_block=spec.counters_block,
        ae_title=spec.ae_title if isinstance(spec, ReceiverSpec) else "",
        address=spec.address if isinstance(spec, StatsSpec | Hl7Spec) else "",
        port=spec.port if isinstance(spec, ReceiverSpec | StatsSpec | Hl7Spec) else 0,
        associations=block.get(Gauge.ASSOCIATIONS_ACTIVE) if receives or sends else 0,
        association_limit=_association_limit(spec),
    )


def _association_limit(spec: AnySpec) -> int:
    if isinstance(spec, ReceiverSpec):
        return spec.association_limit
    return spec.associations if isinstance(spec, SenderSpec) else 0


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    command: str


class StatusServer:
    """Answers on `run/control.sock`."""

    def __init__(
        self,
        directory: Path,
        answer: Callable[[], Status],
        reload: Callable[[], Awaitable[Reloaded]],
    ) -> None:
        self._directory = directory
        self._answer = answer
        self._reload = reload
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        path = self._directory / SOCKET_NAME
        try:
            path.unlink(missing_ok=True)  # a killed predecessor's; the lock says that it is gone
        except OSError as error:
            raise OperatorError(f"cannot be removed: {error.strerror}", str(path)) from error
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            with _short(self._directory) as short:
                listener.bind(short)
        except OSError as error:
            listener.close()
            raise OperatorError(f"cannot be made: {error.strerror}", str(path)) from error
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listener, limit=limits.control_request_bytes_max
        )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            (self._directory / SOCKET_NAME).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), _patience_s)
            writer.write(await self._reply(line) + b"\n")
            await asyncio.wait_for(writer.drain(), _patience_s)
        except (TimeoutError, ValueError, ConnectionError):
            return  # who asks nothing, too much, or has gone gets no answer
        finally:
            writer.close()

    async def _reply(self, line: bytes) -> bytes:
        try:
            question = msgspec.json.decode(line, type=Question)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            return msgspec.json.encode({"error": str(error)})
        if question.command == "status":
            return msgspec.json.encode(self._answer())
        if question.command == "reload":
            return msgspec.json.encode(await self._reload())
        return msgspec.json.encode({"error": "the commands are status and reload"})


def ask_status(data_directory: Path) -> Status | None:
    """What the service on this data says of itself; None when none runs."""
    return _ask(data_directory, "status", Status, _patience_s)


def ask_reload(data_directory: Path) -> Reloaded | None:
    """Have the service on this data read its configuration again; None when none runs."""
    return _ask(data_directory, "reload", Reloaded, limits.reload_answer_s)


AnswerT = TypeVar("AnswerT", Status, Reloaded)


def _ask(
    data_directory: Path, command: str, kind: type[AnswerT], patience_s: float
) -> AnswerT | None:
    directory = data_directory / "run"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(patience_s)
        try:
            with _short(directory) as short:
                connection.connect(short)
            connection.sendall(msgspec.json.encode(Question(command)) + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline()
        except (FileNotFoundError, NotADirectoryError, ConnectionError):
            return None
        except PermissionError as error:
            raise OperatorError(
                "belongs to another user: ask as the service's user, or as root",
                str(directory / SOCKET_NAME),
            ) from error
        except TimeoutError as error:
            raise OperatorError("the service does not answer", str(directory)) from error
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise OperatorError(f"the service answers in another version's words: {error}") from error


class _short:  # noqa: N801  # reads as a function where it is used
    """The socket's path by a descriptor: a socket address holds 107 bytes, a path may be longer."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory, os.O_PATH | os.O_CLOEXEC)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._descriptor}/{SOCKET_NAME}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
