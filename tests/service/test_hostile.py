"""Hostile peers against the running service: each gets its answer, and nobody else notices.

Every input is sent whole and a byte at a time. A good association stays open through all of them
and stores an instance after each: it must neither break nor slow down.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.material import hostile_corpus, hostile_messages, wire
from tests.material.hostile_corpus import Abort, Accept, Answer, Close, Reject, Row, Status
from tests.material.waiting import eventually, within
from tests.peers.peer import Peer, PeerClosedError
from tests.peers.tap import data_set_of_file
from tests.rigs.gateway import Gateway, assert_memory_settles

pytestmark = pytest.mark.process

ROWS = [*hostile_corpus.every_row(), *hostile_messages.every_row()]
# Rows with more bytes than this are dripped in steps of this share: 1 byte would only take longer.
DRIPPED_MAX = 20_000


class Bystander:
    """A well-behaved peer whose association outlives every hostile one."""

    def __init__(self, gateway: Gateway) -> None:
        self.peer = Peer(gateway.address)
        assert self.peer.associate().kind == wire.ASSOCIATE_AC
        self.count = 0

    def check(self) -> None:
        """Store one more instance, promptly."""
        self.count += 1
        uid = f"1.2.826.0.1.3680043.10.1.1.{self.count}"
        begun = time.monotonic()
        assert self.peer.store(wire.CT_IMAGE, uid, wire.small_data_set(uid)) == 0
        assert time.monotonic() - begun < within(2)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {"application_timeout_s": 2}
    service = Gateway(tmp_path_factory.mktemp("hostile"), settings)
    try:
        yield service.start()
    finally:
        service.close()


@pytest.fixture(scope="module")
def bystander(gateway: Gateway) -> Iterator[Bystander]:
    one = Bystander(gateway)
    yield one
    assert one.peer.release()


def judge(peer: Peer, answer: Answer) -> str:
    """Read what comes and hold it against the row's answer; what came, to compare two runs by."""
    match answer:
        case Status(code):
            fields = peer.receive_command()
            status = int.from_bytes(fields[0x0900], "little")
            assert status == code, f"status {status:04x}"
            assert code == 0 or 0 < len(fields.get(0x0902, b"?")) <= 64
            assert peer.echo() == 0, "the association does not live on"
            return f"status {status:04x}"
        case Accept(check):
            pdu = peer.receive()
            assert pdu is not None
            assert pdu.kind == wire.ASSOCIATE_AC, f"PDU {pdu.kind} {pdu.body[:4].hex()}"
            assert check(pdu.body), wire.accepted_contexts(pdu.body)
            assert wire.user_items(pdu.body)[0x51] == (16378).to_bytes(4, "big")
            assert peer.release()
            return f"accept {pdu.body.hex()}"
        case Close():
            pdu = peer.receive()
            assert pdu is None or pdu.kind == wire.ABORT
            assert pdu is None or peer.receive() is None, "not closed after its A-ABORT"
            return "close" if pdu is None else f"abort {pdu.body.hex()}"
        case Reject(result, source, reason):
            pdu = peer.receive()
            assert pdu is not None
            assert pdu.rejection == (result, source, reason)
            return "reject"
        case Abort(sources, reasons):
            pdu = peer.receive()
            assert pdu is not None, "closed without an A-ABORT"
            assert pdu.kind == wire.ABORT, f"PDU {pdu.kind} {pdu.body[:4].hex()}"
            source, reason = pdu.abort
            assert source in sources, f"source {source}, reason {reason}"
            assert reason in reasons, f"source {source}, reason {reason}"
            assert source == hostile_corpus.PROVIDER or reason == 0, "a user gives no reason"
            return f"abort {source} {reason}"


def connect(gateway: Gateway, situation: str) -> Peer:
    """A peer in the situation a row begins in; waits for the slot of the one before."""
    for _ in range(100):
        peer = Peer(gateway.address, timeout=6)
        if situation == "connected" or peer.associate().kind == wire.ASSOCIATE_AC:
            return peer
        peer.close()
        time.sleep(0.02)
    raise AssertionError("no association")


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_protocol_input(gateway: Gateway, bystander: Bystander, row: Row) -> None:
    lines = len(gateway.log())
    outcomes = []
    for step in (0, max(1, len(row.data) // DRIPPED_MAX)):
        with connect(gateway, row.situation) as peer:
            if isinstance(row.answer, Accept | Status):
                peer.send(row.data, step)
            else:  # it may be cut off while still sending
                drip(peer, row.data, step)
            outcomes.append(judge(peer, row.answer))
    assert outcomes[0] == outcomes[1], "the answer depends on how the bytes came"
    bystander.check()
    if not isinstance(row.answer, Accept) and row.answer != Status(0):
        eventually(lambda: explained(gateway, lines), 3, "the log gives no reason")


def drip(peer: Peer, data: bytes, step: int) -> None:
    """Send until all is sent or the answer is there: bytes after it would only meet a reset."""
    if not step:
        peer.send(data)
        return
    for at in range(0, len(data), step):
        peer.send(data[at : at + step])
        if at % 64 == 0 and pending(peer.socket):
            return


def pending(connection: socket.socket) -> bool:
    """Whether something, or the end, can be read already."""
    connection.setblocking(False)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        connection.settimeout(6)
    return True


def explained(gateway: Gateway, since: int) -> bool:
    """Whether the log has got a warning with a reason: ours in words, a peer's by number."""
    return any(
        entry["level"] in ("warning", "error") and (entry.get("text") or "reason" in entry)
        for entry in gateway.log()[since:]
    )


@pytest.mark.parametrize("name", list(hostile_messages.data_sets()))
def test_data_set_is_kept_as_it_is(gateway: Gateway, bystander: Bystander, name: str) -> None:
    """The data set is not checked: whatever it holds, it is stored and found."""
    data_sets = hostile_messages.data_sets()
    data_set = data_sets[name]
    uid = f"1.2.826.0.1.3680043.10.1.2.{list(data_sets).index(name) + 1}"
    with connect(gateway, "associated") as peer:
        assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
        peer.release()
    rows = gateway.find("--sop-uid", uid)
    assert list(rows) == [uid]
    path = gateway.stored_file(rows[uid])
    assert path.resolve().is_relative_to((gateway.data / "store").resolve())
    assert data_set_of_file(path.read_bytes()) == data_set
    bystander.check()


def test_a_data_set_of_no_byte_is_refused_and_replaces_nothing(
    gateway: Gateway, bystander: Bystander
) -> None:
    uid = "1.2.826.0.1.3680043.10.1.4.1"
    good = wire.small_data_set(uid, patient="GOOD")
    with connect(gateway, "associated") as peer:
        assert peer.store(wire.CT_IMAGE, uid, good) == 0
        assert peer.store(wire.CT_IMAGE, uid, b"") == 0x0110
        # Neither does what nobody can read, of which nobody knows whose it is.
        assert peer.store(wire.CT_IMAGE, uid, bytes(5000)) == 0
        peer.release()
    found = gateway.command("find", "--level", "image", "--sop-uid", uid, "--format", "json")
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    kept = {data_set_of_file(gateway.stored_file(row).read_bytes()) for row in rows}
    assert kept == {good, bytes(5000)}
    (refused,) = [
        line
        for line in gateway.log()
        if line["event"] == "instance_refused" and line["sop_instance_uid"] == uid
    ]
    assert refused["reason"] == "The data set is empty"
    bystander.check()


def test_hostile_text_does_not_reach_the_terminal(gateway: Gateway) -> None:
    uid = "1.2.826.0.1.3680043.10.1.3.1"
    data_set = wire.small_data_set(uid, patient="\x1b[2J\x07EVIL\r\n", study="1.2.826.66.1")
    with connect(gateway, "associated") as peer:
        assert peer.store(wire.CT_IMAGE, uid, data_set) == 0
        peer.release()
    for form in ("table", "json"):
        shown = gateway.command(
            "find", "--level", "study", "--study-uid", "1.2.826.66.1", "--format", form
        )
        assert "EVIL" in shown.stdout
        assert not set(shown.stdout) & set("\x1b\x07\r")


def test_nothing_left_the_data_directory(gateway: Gateway) -> None:
    """After all of the above: no file of ours outside, no peer's string in a path."""
    assert not Path("/etc/x").exists()
    assert not Path("/tmp/x").exists()
    for path in gateway.data.rglob("*"):
        assert ".." not in path.name
        assert path.name.isprintable()


def test_no_patient_data_in_the_log(gateway: Gateway) -> None:
    content = gateway.log_file.read_text(errors="replace")
    for word in ("EVIL", "TEST^WIRE", "WIRE-1", "<script>alert", "SSH-2.0"):
        assert word not in content
    assert "\x1b" not in content


def test_silence_after_connecting(gateway: Gateway, bystander: Bystander) -> None:
    """ARTIM: a peer that says nothing, or half of something, is let go after the time-out."""
    halves = [b"", hostile_corpus.REQUEST[:6], hostile_corpus.REQUEST[:80]]
    peers = [Peer(gateway.address, timeout=10) for _ in halves]
    begun = time.monotonic()
    for peer, data in zip(peers, halves, strict=True):
        peer.send(data)
    for peer in peers:
        assert peer.receive() is None
        assert 1.5 < time.monotonic() - begun < within(4)
        peer.close()
    bystander.check()


def test_slow_drip_does_not_outlast_the_timer(gateway: Gateway, bystander: Bystander) -> None:
    """A byte now and then does not keep a connection without association alive."""
    with Peer(gateway.address, timeout=6) as peer:
        begun = time.monotonic()
        for at in range(len(hostile_corpus.REQUEST)):
            peer.send(hostile_corpus.REQUEST[at : at + 1])
            if pending(peer.socket):
                break
            time.sleep(0.1)
        assert peer.receive() is None
        assert time.monotonic() - begun < within(4)
    bystander.check()


def test_three_hundred_idle_connections(gateway: Gateway, bystander: Bystander) -> None:
    """More idle connections than may be pending: those in work are served as ever."""
    idle = [socket.create_connection(gateway.address, timeout=10) for _ in range(300)]
    try:
        for _ in range(5):
            bystander.check()
        with connect(gateway, "associated") as peer:
            assert peer.echo() == 0
            assert peer.release()
        for connection in idle:
            connection.settimeout(8)
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                continue
    finally:
        for connection in idle:
            connection.close()


def test_peer_that_never_reads(gateway: Gateway, bystander: Bystander) -> None:
    """Requests are sent on and on, no response is read: an abort, not growth."""
    message = wire.p_data(hostile_corpus.VERIFICATION, wire.echo_command(), True)
    with connect(gateway, "associated") as peer:
        peer.socket.settimeout(1)
        assert stops_taking(peer, message * 1000), "every request was taken, no response was read"
    bystander.check()


def stops_taking(peer: Peer, data: bytes) -> bool:
    """Whether the other side stops reading, or hangs up, while this is sent 200 times over."""
    try:
        for _ in range(200):
            peer.socket.sendall(data)
    except OSError:
        return True
    return False


def test_connections_leave_nothing_behind(gateway: Gateway, bystander: Bystander) -> None:
    """Connections, aborted and broken off by the thousand, cost no memory.

    The level moves by 1.5 MiB up and down; 0.75 KiB left behind by each connection would keep
    every level 1 MiB above that of four thousand connections before.
    """

    def a_thousand() -> None:
        for number in range(1000):
            with Peer(gateway.address, timeout=6) as peer:
                peer.send(hostile_corpus.REQUEST[: 40 + number % 300])
                if number % 3 == 0:
                    peer.send(b"\xff" * 50)
        time.sleep(0.3)

    assert_memory_settles(receiver_pid(gateway), a_thousand, rounds=16, back=4, slack_kib=1024)
    bystander.check()


def receiver_pid(gateway: Gateway) -> int:
    """The process that serves SCP_AE."""
    return gateway.pid("storage_scp")


def test_dripped_in_parallel(gateway: Gateway, bystander: Bystander) -> None:
    """Three peers drip whole stores, byte by byte, at once: all stored, the fourth not slower."""
    failures: list[BaseException] = []

    def one(number: int) -> None:
        uid = f"1.2.826.0.1.3680043.10.1.4.{number}"
        command = wire.p_data(3, wire.store_command(wire.CT_IMAGE, uid), True)
        data = wire.p_data(3, wire.small_data_set(uid, pixels=bytes(5000)), False)
        try:
            with connect(gateway, "associated") as peer:
                peer.send(command + data, step=1)
                assert peer.receive_command()[0x0900] == b"\0\0"
                assert peer.release()
        except (AssertionError, OSError, PeerClosedError) as error:
            failures.append(error)

    run_all([threading.Thread(target=one, args=(number,)) for number in range(3)], bystander.check)
    assert not failures


def run_all(threads: list[threading.Thread], meanwhile: Callable[[], None]) -> None:
    """Start all, do something over and over until all have ended."""
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        meanwhile()
    for thread in threads:
        thread.join()
