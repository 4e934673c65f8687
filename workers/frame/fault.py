"""Faults of ours that no coroutine hears of: a callback of the event loop raised, or a task that
nobody awaits.

asyncio gives them to the loop's exception handler, and the one it comes with prints them and goes
on: the peer whose callback it was would wait for ever. Here the first one is logged without values,
ends the work that the loop was started for, and leaves as `FaultError`. What an operating system
says of a connection below a transport of asyncio's own is no fault of ours, and is only logged.
"""

import asyncio
import os
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from engine.telemetry.logs import Log

T = TypeVar("T")

_frames_max: Final = 12


class FaultError(Exception):
    """A fault of ours has ended the work; what it was is logged. The text is a trace."""


def trace_of(error: BaseException) -> str:
    """Where it came from, innermost first. Values of exceptions may hold what a peer sent; the
    trace holds only our own lines."""
    frames = traceback.extract_tb(error.__traceback__)[-_frames_max:]
    return " < ".join(
        f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}"
        for frame in reversed(frames)
    )


class FaultWatch:
    """The one place where such faults arrive. `ending` is called once, before the work is
    cancelled: whoever cannot be sure that the work ends by that bounds it there."""

    def __init__(self, log: Log, event: str, ending: Callable[[], None] = lambda: None) -> None:
        self._log = log
        self._event = event
        self._ending = ending
        self._work: asyncio.Future[Any] | None = None
        self._fault = ""

    async def guard(self, work: Awaitable[T]) -> T:
        """The work, to its end or to the first fault: FaultError."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._hear)
        self._work = asyncio.ensure_future(work)
        try:
            result: T = await self._work
        except (asyncio.CancelledError, Exception):
            if not self._fault:
                raise
        else:
            if not self._fault:
                return result
        raise FaultError(self._fault)  # whatever else came of being ended

    def fail(self, error: BaseException) -> None:
        """A fault of ours outside the work: it ends."""
        self.log(error)
        if self._work is None or self._fault:
            return
        self._fault = f"{type(error).__name__} in {trace_of(error)}"
        self._ending()
        self._work.cancel()

    def log(self, error: BaseException) -> None:
        """One line, without values."""
        self._log.error(self._event, kind=type(error).__name__, trace=trace_of(error))

    def watch(self, task: "asyncio.Future[Any]") -> None:
        """Of work beside: its fault is heard of at once, not when somebody awaits it."""
        task.add_done_callback(self._look)

    def _look(self, task: "asyncio.Future[Any]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def _hear(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception) and not (
            isinstance(error, OSError) and "transport" in context
        ):
            self.fail(error)
            return
        # A connection of asyncio's own broke, or something was left behind at the end: `message` is
        # asyncio's own text, the rest of the context may hold values.
        kind = type(error).__name__ if error is not None else ""
        self._log.warning("event_loop", text=str(context.get("message", "")), kind=kind)
