"""The contest of tests/rigs/slot_contest.py against a running service: each party a host.

Every party has an address of its own of 127.0.0.0/8, so that the service takes it for a host.
"""

import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace

from tests.material import wire
from tests.peers.peer import Address, Peer, PeerClosedError
from tests.rigs.slot_contest import Contest, simulate

CT_CONTEXT, VERIFICATION_CONTEXT = 3, 21
PIXELS = bytes(200_000)
# A PDU that would be good if it came to its end.
LONG_PDU = wire.p_data(CT_CONTEXT, bytes(4000), command=True)


class BoundPeer(Peer):
    """A peer that calls from an address of its own."""

    def __init__(self, address: Address, host: str, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection(address, timeout, source_address=(host, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.contexts = {}
        self.message = 0


class Party(threading.Thread):
    """One host, until it is stopped."""

    def __init__(self, address: Address, host: str, contest: Contest) -> None:
        super().__init__(daemon=True)
        self.address = address
        self.host = host
        self.contest = contest
        self.stopping = threading.Event()
        self.uids = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            pause = self.pause_after()
            with suppress(OSError, PeerClosedError), BoundPeer(self.address, self.host) as peer:
                if peer.associate().kind == wire.ASSOCIATE_AC:
                    pause = self.use(peer)
            self.stopping.wait(pause)

    def pause_after(self) -> float:
        """A rejection, or an end that was not our wish."""
        return self.contest.retry_s

    def use(self, peer: Peer) -> float:
        """What it does with its association; how long it stays away then."""
        raise NotImplementedError

    def next_uid(self) -> str:
        self.uids += 1
        return f"1.2.826.0.1.3680043.10.14.{self.host}.{self.uids}"


class Scanner(Party):
    """Stores series after series; `times` has when each instance was acknowledged."""

    def __init__(self, address: Address, host: str, contest: Contest) -> None:
        super().__init__(address, host, contest)
        self.times: list[float] = []
        self._left = 0

    def use(self, peer: Peer) -> float:
        due = time.monotonic()
        self._left = self._left or self.contest.images
        while self._left and not self.stopping.is_set():
            due += self.contest.image_s
            self.stopping.wait(due - time.monotonic())
            uid = self.next_uid()
            if peer.store(wire.CT_IMAGE, uid, wire.small_data_set(uid, pixels=PIXELS)) == 0:
                self.times.append(time.monotonic())
                self._left -= 1
        peer.release()
        return self.contest.pause_s

    def rate(self, begin: float, end: float) -> float:
        """Instances a second between two times."""
        return sum(begin <= at < end for at in self.times) / (end - begin)


class Attacker(Party):
    """Holds a slot by one of ATTACKS, and comes back."""

    def __init__(self, address: Address, host: str, contest: Contest, attack: str) -> None:
        super().__init__(address, host, contest)
        self.attack = attack

    def pause_after(self) -> float:
        return self.contest.poll_s

    def use(self, peer: Peer) -> float:
        if self.attack == "churn":
            self.stopping.wait(self.contest.churn_s)
            peer.release()
            return self.contest.poll_s
        if self.attack == "store_once":
            uid = self.next_uid()
            peer.store(wire.CT_IMAGE, uid, wire.small_data_set(uid))
        if self.attack == "trickle":
            peer.send(wire.p_data(CT_CONTEXT, wire.store_command(wire.CT_IMAGE, "1.2.3"), True))
        peer.socket.settimeout(1.0)
        while not self.stopping.is_set():
            self._go_on(peer)
            with suppress(TimeoutError):
                if not peer.socket.recv(4096):
                    break
        return self.contest.poll_s

    def _go_on(self, peer: Peer) -> None:
        if self.attack == "drip":
            peer.socket.sendall(LONG_PDU[peer.message : peer.message + 1])
            peer.message += 1
        elif self.attack == "echo":
            echo = wire.p_data(VERIFICATION_CONTEXT, wire.echo_command(), True)
            peer.socket.sendall(echo)
        elif self.attack == "trickle":
            peer.socket.sendall(wire.pdu(wire.P_DATA, wire.pdv(CT_CONTEXT, bytes(16_000), 0)))


def play(address: Address, contest: Contest) -> list[float]:
    """What each scanner stored while it was measured, in instances a second."""
    scanners = [
        Scanner(address, f"127.0.1.{number + 1}", contest) for number in range(contest.scanners)
    ]
    attackers = [
        Attacker(
            address,
            f"127.0.2.{number + 1}",
            contest,
            contest.attacks[number % len(contest.attacks)],
        )
        for number in range(contest.hostile)
    ]
    parties: list[Party] = [*attackers, *scanners]
    for party in parties:
        party.start()
    time.sleep(contest.warm_up_s)
    begin = time.monotonic()
    time.sleep(contest.measured_s)
    end = time.monotonic()
    for party in parties:
        party.stopping.set()
    for party in parties:
        party.join(30)
    return [scanner.rate(begin, end) for scanner in scanners]


def undisturbed(contest: Contest) -> float:
    """Instances a second of a scanner that is alone: its own pauses are all that counts."""
    return sum(simulate(replace(contest, hostile=0))) / contest.scanners
