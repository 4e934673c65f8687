"""ECHO-SCU: opens an association, asks C-ECHO, releases it; one attempt, and what came of it.

Started by the user alone. Table 4.2-11 allows one association at a time. So where several remote
AEs are asked, only connecting to them goes on side by side, and a dead host costs the others
nothing; associations take turns.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from engine import limits
from engine.dictionary import uids
from engine.dictionary.contexts import TRANSFER_SYNTAX_NAMES
from engine.dimse.requests import status_words
from engine.settings.timeouts import Timeouts
from engine.upper_layer.pdus import ProposedContext
from workers.scu.association import Peer, ScuAssociation, ScuFailure, connect

# Table 4.2-14.
_CONTEXTS: Final = (ProposedContext(1, uids.verification, (uids.implicit_vr_little_endian,)),)


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """One verification. The texts may hold what the peer sent: escape them where they are shown.

    `outcome` is "success", "status" (the peer answered, with another status) or the kind of the
    failure. `round_trip_s` is from the C-ECHO-RQ to its response; `seconds` is all of it.
    """

    name: str
    ae_title: str
    host: str
    port: int
    tls: bool
    outcome: str
    text: str
    status: int | None = None
    round_trip_s: float | None = None
    seconds: float
    context: str = ""
    implementation: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether the remote AE answered C-ECHO with success."""
        return self.status == 0


def echo_each(asked: Sequence[tuple[Peer, Timeouts]], calling_ae_title: str) -> Iterator[Echo]:
    """Verify each once; results in the order of `asked`."""
    turns = threading.Semaphore(limits.associations_echo_max)
    with ThreadPoolExecutor(limits.echo_connections_max, "echo") as threads:
        yield from threads.map(lambda one: _echo(one[0], one[1], calling_ae_title, turns), asked)


def _echo(
    peer: Peer, timeouts: Timeouts, calling_ae_title: str, turns: threading.Semaphore
) -> Echo:
    begun = time.monotonic()
    try:
        connection = connect(peer, timeouts.connect_s)
        connected = time.monotonic()
        with turns:
            if time.monotonic() - connected > limits.echo_connection_wait_s:
                connection.close()
                connection = connect(peer, timeouts.connect_s)
            association = ScuAssociation(connection, peer, calling_ae_title, _CONTEXTS, timeouts)
            with association:
                return _ask(association, begun)
    except ScuFailure as failure:
        return _result(peer, begun, outcome=failure.kind.value, text=failure.text)


def _ask(association: ScuAssociation, begun: float) -> Echo:
    asked = time.monotonic()
    status = association.echo()
    answered = time.monotonic()
    text = status_words(status)
    try:
        association.release()
    except ScuFailure as failure:
        text += f"; but then: {failure.text}"  # it was verified all the same
    (answer,) = association.accepted.values()
    return _result(
        association.peer,
        begun,
        outcome="success" if status == 0 else "status",
        text=text,
        status=status,
        round_trip_s=answered - asked,
        context=f"Verification, {TRANSFER_SYNTAX_NAMES[answer.transfer_syntax]}",
        implementation=" ".join(association.implementation).strip(),
    )


def _result(
    peer: Peer,
    begun: float,
    *,
    outcome: str,
    text: str,
    status: int | None = None,
    round_trip_s: float | None = None,
    context: str = "",
    implementation: str = "",
) -> Echo:
    return Echo(
        name=peer.name,
        ae_title=peer.ae_title,
        host=peer.host,
        port=peer.port,
        tls=peer.tls is not None,
        outcome=outcome,
        text=text,
        status=status,
        round_trip_s=round_trip_s,
        seconds=time.monotonic() - begun,
        context=context,
        implementation=implementation,
    )
