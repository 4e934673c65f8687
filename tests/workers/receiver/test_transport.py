"""What a socket's error says: that the peer is gone, that there is nothing now, or a fault of ours.
And a reload of what TLS is made of, which is tried again until it succeeds."""

import errno
import os
import re
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.errors import OperatorError
from native import _core
from tests.rigs.gateway import ROOT
from workers.receiver import secured_listener
from workers.receiver.host import Host
from workers.receiver.secured_listener import SecuredListener
from workers.receiver.transport import CONNECTION_LOSSES, ConnectionLostError, Transport


def test_both_languages_know_the_same_losses() -> None:
    text = (ROOT / "native/src/base/byte_stream.hpp").read_text()
    assert {getattr(errno, name) for name in re.findall(r"case (E\w+):", text)} == CONNECTION_LOSSES


class FailingSocket:
    def __init__(self, code: int) -> None:
        self.code = code

    def fileno(self) -> int:
        return 0

    def fail(self, *_: object) -> int:
        raise OSError(self.code, os.strerror(self.code))

    send = recv = shutdown = fail


def failing(code: int) -> Transport:
    return Transport(cast(socket.socket, FailingSocket(code)))


@pytest.mark.parametrize("code", sorted(CONNECTION_LOSSES))
def test_the_peer_is_gone(code: int) -> None:
    transport = failing(code)
    with pytest.raises(ConnectionLostError):
        transport.send(b"answer")
    assert transport.drop_input() == _core.RECEIVED_END
    transport.say_end()


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM])
def test_nothing_is_to_be_done_now(code: int) -> None:
    transport = failing(code)
    assert transport.send(b"answer") == 0
    assert transport.drop_input() == _core.RECEIVED_AGAIN


@pytest.mark.parametrize("code", [errno.EBADF, errno.ENOTSOCK, errno.EFAULT, errno.EINVAL])
def test_a_fault_of_ours_is_not_taken_for_the_peers(code: int) -> None:
    transport = failing(code)
    for call in (lambda: transport.send(b"answer"), transport.drop_input, transport.say_end):
        with pytest.raises(OSError, match=os.strerror(code)):
            call()


def test_a_reload_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then connections are secured as before; it is logged once."""
    due: list[Callable[[], None]] = []
    events: list[str] = []
    published = {"": "old", "new": None}  # by digest; None: it is not whole yet

    def read(_: int) -> Any:
        made = published[host.spec.tls_digest]
        if made is None:
            raise OperatorError("the supervisor handed over no key for it", "tls")
        return SimpleNamespace(
            profile="p", wipe=lambda: None, server=lambda: SimpleNamespace(name=made, suites=[])
        )

    def call_later(_: float, call: Callable[[], None]) -> Any:
        due.append(call)
        return SimpleNamespace(cancel=lambda: None)

    log = SimpleNamespace(
        info=lambda event, **_: events.append(event), error=lambda event, **_: events.append(event)
    )
    parts = {
        "spec": SimpleNamespace(tls_digest="", tls_descriptor=0),
        "loop": SimpleNamespace(call_later=call_later),
        "child": SimpleNamespace(log=log),
    }
    host: Any = SimpleNamespace(**parts)
    monkeypatch.setattr(secured_listener, "read_secured", read)
    listener = SecuredListener(cast(Host, host))
    host.spec.tls_digest = "new"
    listener.reload()
    due.pop()()
    assert cast(Any, listener._server).name == "old"
    assert events == ["tls_loaded", "tls_reload_failed"]
    published["new"] = "new"
    due.pop()()
    assert cast(Any, listener._server).name == "new"
    assert due == []
    listener.reload()
    assert events == ["tls_loaded", "tls_reload_failed", "tls_loaded"]
