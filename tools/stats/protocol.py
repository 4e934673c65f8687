"""HTTP connections that nobody can hold: each has times to keep, and the newest always gets in.

A health check asks on a connection of its own and is answered within milliseconds. So whoever
connects and says nothing, dribbles a header, or never reads an answer is closed when its time is
over. When its place is wanted it is closed before that, the oldest first. What is being answered at
this moment is never closed for another's sake.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from engine import limits


class TimedProtocol(H11Protocol):
    """uvicorn's protocol with a deadline for the header, for the request and for its reading."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._opened = self.loop.time()
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A place is made by closing the oldest connection that is not being answered."""
        super().connection_made(transport)
        self._arm(limits.stats_header_s)
        if len(self.connections) > limits.stats_connections_max:
            others = (each for each in self.connections if isinstance(each, TimedProtocol))
            idle = [each for each in others if not each._is_answering]
            min(idle, key=lambda each: each._opened).transport.abort()

    def data_received(self, data: bytes) -> None:
        """A header that has begun has its time, a request that is whole has another."""
        super().data_received(data)
        if self._is_answering:
            self._arm(limits.stats_request_s)
        elif self._deadline is None and not self.transport.is_closing():
            self._arm(limits.stats_header_s)

    def on_response_complete(self) -> None:
        """Written, as far as we are concerned; the time goes on while the peer does not read it."""
        super().on_response_complete()
        if not self._is_answering and not self.transport.get_write_buffer_size():
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over: no timer may outlive it."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
