"""What receiving over TLS costs: `python -m benchmarks.tls_receive`.

The same bytes, sealed by the same sender as TLS_AES_128_GCM_SHA256, go to

- a bare loop of SSL_read, which is what the library itself needs for them;
- the product's receive loop: session, cutter and ring, PDUs cut and data sets dropped at the end;
- the secured AE's whole process, with checksums, index attributes, writing and answering, and the
  plain AE's, for what all but TLS costs.

Counted is the CPU time, user's and kernel's, of whoever receives. Rounds alternate; ratios are made
within a round.
"""

import multiprocessing
import os
import select
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import click
from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.instances import make
from benchmarks.native_build import program
from engine import limits
from engine.tls.profiles import PROFILES
from native import _core
from tests.material import certificates, wire
from tests.material.waiting import free_ports
from tests.peers.peer import Peer
from tests.rigs.gateway import Gateway
from tests.rigs.secured import SecuredGateway, SecuredPeer
from tests.rigs.spools import SpoolBox, new_cutter
from workers.frame.tls_handover import Secured

_SUITE: Final = "TLS_AES_128_GCM_SHA256"


def process_cpu_ns(pid: int) -> int:
    """CPU time of all threads there are: the receiver starts its own at once and keeps them."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


class Round:
    """One sender's view: the bytes of an instance, and how often they are sent."""

    def __init__(self, instance: str, gigabytes: float) -> None:
        self.data = make(instance, 1).data
        self.count = max(1, int(gigabytes * 1e9 / len(self.data)))
        self.pdus = wire.p_data(3, self.data, command=False)
        self.serial = 0

    def store_all(self, peer: Peer) -> None:
        """All of them over one association, each acknowledged; nothing else is timed."""
        for _ in range(self.count):
            self.serial += 1
            uid = f"1.2.826.0.1.3680043.10.8.{os.getpid()}.{self.serial}"
            command = wire.store_command(wire.CT_IMAGE, uid, 1)
            peer.socket.sendall(wire.p_data(3, command, command=True) + self.pdus)
            status = peer.receive_command()[0x0900]
            if status != b"\0\0":
                raise click.ClickException(f"an instance was answered {status.hex()}")


def measure_bare(gateway: SecuredGateway, one: Round, read_ahead: int) -> float:
    """Nanoseconds of CPU a byte, of the bare loop."""
    port = free_ports(1)[0]
    key, chain = gateway.peer_files
    binary = program("tls_read", "ssl", "crypto")
    command = [str(binary), str(port), str(chain), str(key), str(read_ahead)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        with SecuredPeer(("127.0.0.1", port), gateway.client_context()) as peer:
            for _ in range(one.count):
                peer.socket.sendall(one.pdus)
        said = server.stdout.readline().split()
    if said[2] != _SUITE:
        raise click.ClickException(f"the bare loop spoke {said[2]}")
    return int(said[1]) / int(said[0])


def receive_and_drop(pipe: Connection, tls: Secured, directory: Path) -> None:
    """The product's receive loop in a process of its own: tells its port, then (bytes, CPU ns)."""
    box = SpoolBox(directory, slots=1, durable=False)
    server = tls.server()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        connection, _ = listener.accept()
    with connection:
        connection.setblocking(False)
        ready = select.poll()
        ready.register(connection, select.POLLIN)
        session = server.open(connection.fileno())
        while session.handshake() != _core.HANDSHAKE_DONE:
            ready.poll()
        session.widen()
        cutter = new_cutter()
        cutter.attach(box.spool, 0)
        began = time.process_time_ns()
        code = _core.RECEIVED_AGAIN
        while code != _core.RECEIVED_END:
            if code == _core.RECEIVED_AGAIN:
                ready.poll()
            code = cutter.receive(session, limits.receive_bytes_per_turn)
            event = cutter.next_event() if code == _core.RECEIVED_EVENT else None
            if event is not None and event[0] == _core.EVENT_COMMAND:
                box.spool.discard(0)
                cutter.expect_data(event[1])
            elif event is not None:
                assert event[0] == _core.EVENT_DATASET
                cutter.expect_command()
        used = time.process_time_ns() - began
    box.close()
    pipe.send((cutter.received_bytes, used))


def measure_loop(gateway: SecuredGateway, one: Round, directory: Path) -> float:
    """Nanoseconds of CPU a byte, of the product's receive loop."""
    own = certificates.good()
    profile = PROFILES["bcp195"]
    tls = Secured(
        key=own.key_der,
        chain=tuple(found.public_bytes(Encoding.DER) for found in own.sent),
        trust=(certificates.root().der,),
        tls12=profile.tls12,
        tls13=profile.tls13,
        client_authentication="need",
        profile=profile.name,
        ends_ns=0,
    )
    here, there = multiprocessing.Pipe()
    directory.mkdir(exist_ok=True)
    child = multiprocessing.get_context("spawn").Process(
        target=receive_and_drop, args=(there, tls, directory)
    )
    child.start()
    try:
        port = here.recv()
        command = wire.p_data(3, wire.store_command(wire.CT_IMAGE, "1.2.3"), command=True)
        with SecuredPeer(("127.0.0.1", port), gateway.client_context()) as peer:
            for _ in range(one.count):
                peer.socket.sendall(command + one.pdus)
        received, used = here.recv()
    finally:
        child.join(10)
        child.kill()
    if received != one.count * len(command + one.pdus):
        raise click.ClickException("not all of it came through")
    return float(used / received)


def measure_ours(gateway: Gateway, name: str, one: Round, open_peer: Callable[[], Peer]) -> float:
    """Nanoseconds of CPU a byte, of the receiver's process."""
    pid = gateway.pid(name)
    with open_peer() as peer:
        if peer.associate().kind != wire.ASSOCIATE_AC:
            raise click.ClickException("no association")
        began = process_cpu_ns(pid)
        one.store_all(peer)
        used = process_cpu_ns(pid) - began
        peer.release()
    return used / (one.count * len(one.pdus))


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


@click.command(help=__doc__)
@click.option("--rounds", default=7, show_default=True)
@click.option("--gigabytes", default=0.5, show_default=True, help="Sent to each in a round.")
@click.option("--instance", default="ct", show_default=True)
@click.option("--durability", type=click.Choice(["sync", "os"]), default="sync", show_default=True)
def main(rounds: int, gigabytes: float, instance: str, durability: str) -> None:
    one = Round(instance, gigabytes)
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="scai-tls-") as place:
        settings = {"durability": durability, "log": {"instances": False}}
        gateway = SecuredGateway(Path(place), settings)
        context = gateway.client_context
        gateway.start()
        try:
            for number in range(rounds + 1):  # the first warms up
                taken = {
                    "bare": measure_bare(gateway, one, 0),
                    "bare, reading ahead": measure_bare(gateway, one, limits.tls_read_ahead_bytes),
                    "receive loop": measure_loop(gateway, one, Path(place) / "ring"),
                    "secured AE": measure_ours(
                        gateway,
                        "secured_scp",
                        one,
                        lambda: SecuredPeer(gateway.secured_address, context()),
                    ),
                    "plain AE": measure_ours(
                        gateway, "storage_scp", one, lambda: Peer(gateway.address)
                    ),
                }
                time.sleep(1)  # the indexer's time
                if number:
                    for name, value in taken.items():
                        figures.setdefault(name, []).append(value)
        finally:
            gateway.stop()
    print(f"{rounds} rounds of {one.count} {instance}, durability {durability}, {_SUITE}")
    print("CPU nanoseconds a byte: median (least to most)")
    for name, values in figures.items():
        print(f"  {name:22} {shown(values)}")
    for upper, lower in (
        ("receive loop", "bare"),
        ("receive loop", "bare, reading ahead"),
        ("secured AE", "bare"),
        ("secured AE", "plain AE"),
    ):
        pairs = zip(figures[upper], figures[lower], strict=True)
        print(f"  {upper} / {lower}: {shown([one / other for one, other in pairs])}")


if __name__ == "__main__":
    main()
