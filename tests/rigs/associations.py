"""Associations that we open with foreign acceptors."""

import ssl
import subprocess
from pathlib import Path

from engine.settings.timeouts import Timeouts
from engine.upper_layer.pdus import ProposedContext
from tests.material import wire
from tests.material.waiting import eventually, free_ports
from tests.peers.receivers import is_listening
from tests.peers.scripted_peer import ScriptedPeer
from workers.scu.association import Peer, ScuAssociation

ECHO = (ProposedContext(1, wire.VERIFICATION, (wire.IMPLICIT,)),)


STORE = (
    ProposedContext(1, wire.CT_IMAGE, (wire.EXPLICIT,)),
    ProposedContext(3, wire.CT_IMAGE, (wire.IMPLICIT,)),
)


TIMEOUT = 0.5


def peer_at(port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Peer:
    return Peer("archive", "PACS", host, port, tls)


def opened(
    peer: ScriptedPeer,
    contexts: tuple[ProposedContext, ...] = ECHO,
    timeout: float | Timeouts = TIMEOUT,
) -> ScuAssociation:
    timeouts = timeout if isinstance(timeout, Timeouts) else Timeouts.each(timeout)
    return ScuAssociation.open(peer_at(peer.port), "GATEWAY", contexts, timeouts)


def run_storescp(directory: Path, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    """A DCMTK acceptor that listens."""
    (port,) = free_ports(1)
    command = ["/usr/bin/storescp", "-od", str(directory), *options, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    eventually(lambda: is_listening(port), what="storescp listens")
    return process, port
