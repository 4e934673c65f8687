"""The native turn: what it decides by itself, what it leaves to Python, and in which order."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from engine import limits
from engine.association.store_lane import MARK
from engine.dimse.commands import Request, encode_pdus, encode_response
from engine.telemetry.logs import Log
from engine.telemetry.metrics import Counter, Gauge, Histogram
from native import _core
from tests.material import wire
from tests.rigs.receptions import CONTEXT, Caller, ReceptionBox, store
from tests.rigs.spools import HEAD, SEGMENT_BYTES, pdv


@pytest.fixture
def box(tmp_path: Path) -> Iterator[ReceptionBox]:
    made = ReceptionBox(tmp_path)
    yield made
    made.close()


def response(uid: str, message_id: int = 1) -> bytes:
    """What the protocol core would answer."""
    request = Request(wire.store_command(wire.CT_IMAGE, uid, message_id))
    return b"".join([encode_pdus(CONTEXT, encode_response(request, 0), 16378)])


def test_what_two_peers_sent_is_stored_and_answered_without_a_notice(box: ReceptionBox) -> None:
    callers = [Caller(box, slot) for slot in (0, 1)]
    assert callers[0].inlet.quiet_since == 0
    for number, caller in enumerate(callers):
        caller.send_store(f"1.2.{number}", message_id=7 + number)
    box.turn()
    assert not box.spool.unflushed, "what ended in a turn is handed over at its end"
    box.turn_until(lambda: box.stored == 2)
    for number, caller in enumerate(callers):
        assert caller.answers() == response(f"1.2.{number}", 7 + number)
        assert caller.inlet.quiet_since > 0
    assert box.notices == []
    assert box.count(Counter.STORED_INSTANCES) == box.count(Counter.STORE_SUCCESS) == 2
    assert box.count(Counter.JOURNAL_RECORDS) == 2
    assert 1 <= box.count(Counter.JOURNAL_GROUPS) <= 2
    assert box.count(Counter.RECEIVED_BYTES) == sum(
        len(store(f"1.2.{number}", b"d" * 5000, 7 + number)) for number in (0, 1)
    )
    assert box.count(Gauge.JOURNAL_DURABLE_SEQUENCE) == box.spool.durable_sequence == 2
    assert box.count(Gauge.LAST_RECEIVED) > 0
    for histogram in (Histogram.COMMIT_DURATION, Histogram.STORE_DURATION):
        counts, seconds = box.counters.observed(histogram)
        assert sum(counts) == 2
        assert 0 < seconds < 10
    assert not box.is_due(), "nothing is left to do"
    for caller in callers:
        caller.close()


def test_durations_fall_into_the_same_buckets_as_elsewhere(box: ReceptionBox) -> None:
    """`observe` in Python, given the sum of one duration, counts where the reception counted."""
    caller = Caller(box, 0)
    caller.send_store("1.2.3")
    box.turn_until(lambda: box.stored == 1)
    for histogram in (Histogram.COMMIT_DURATION, Histogram.STORE_DURATION):
        counts, seconds = box.counters.observed(histogram)
        box.counters.observe(histogram, seconds)
        again, _ = box.counters.observed(histogram)
        assert again == [2 * count for count in counts]
    caller.close()


def test_an_answer_that_is_not_taken_comes_back(box: ReceptionBox) -> None:
    caller = Caller(box, 0)
    caller.send_store("1.2.3")
    filled = 0
    try:
        while True:
            filled += caller.ours.send(b"x" * 65536)
    except BlockingIOError:
        pass
    box.turn_until(lambda: box.stored == 1)
    assert caller.notices == [(_core.NOTICE_UNSENT, response("1.2.3"))]
    assert box.count(Counter.STORE_SUCCESS) == 1
    caller.inlet.hold()
    caller.send_store("1.2.4")
    assert not box.is_due(0.05), "who is held is not read"
    caller.inlet.release()
    box.turn_until(lambda: box.stored == 2)
    assert caller.notices[1:] == [(_core.NOTICE_UNSENT, response("1.2.4"))]
    caller.close()


def test_an_answer_behind_others_that_wait_is_not_sent_ahead_of_them(box: ReceptionBox) -> None:
    caller = Caller(box, 0)
    caller.send_store("1.2.3")
    box.turn()
    caller.inlet.hold()
    box.turn_until(lambda: box.stored == 1)
    assert caller.notices == [(_core.NOTICE_UNSENT, response("1.2.3"))]
    assert caller.answers() == b""
    caller.close()


def test_a_peer_that_is_gone_when_its_instance_is_durable(box: ReceptionBox) -> None:
    caller = Caller(box, 0)
    caller.send_store("1.2.3")
    box.turn()
    assert box.is_due(10.0), "the spool has nothing to tell"
    caller.theirs.close()
    box.turn()
    assert box.stored == box.count(Counter.STORE_SUCCESS) == 1
    assert caller.notices == [(_core.NOTICE_RECEIVED, _core.RECEIVED_END)]
    caller.close()


def test_a_reset_behind_a_short_read_is_told(box: ReceptionBox) -> None:
    """Over TCP, whose reset throws nothing away that was read before."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    caller = Caller(box, 0)
    caller.inlet.leave()
    caller.inlet = _core.Inlet(box.reception, caller.cutter, ours.fileno())
    theirs.sendall(store("1.2.3", b"d" * 300)[:100])
    box.turn_until(lambda: caller.inlet.quiet_since > 0)
    assert not box.notices
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    box.turn_until(lambda: bool(box.notices))
    assert caller.notices == [(_core.NOTICE_RECEIVED, _core.RECEIVED_END)]
    caller.close()
    ours.close()


def test_a_fault_of_ours_is_not_taken_for_a_reset(box: ReceptionBox) -> None:
    """It leaves the turn, and ends the process; the peer of a reset is only told to have gone."""
    caller = Caller(box, 0)
    caller.inlet.receive()  # has used up its turn, and is seen to in the next
    reading, writing = os.pipe()
    os.dup2(reading, caller.ours.fileno())
    with pytest.raises(OSError, match="receiving") as caught:
        box.turn()
    assert caught.value.errno == errno.ENOTSOCK
    assert box.notices == []
    for descriptor in (reading, writing):
        os.close(descriptor)
    caller.close()


def test_who_comes_with_a_descriptor_is_not_told_of_who_left_with_it(box: ReceptionBox) -> None:
    first, second = Caller(box, 0), Caller(box, 1)
    first.theirs.close()
    second.theirs.close()
    told = box.turn()
    assert {key for _, key, _ in told} == {first.inlet.key, second.inlet.key}
    # Python, busy with the first, ends the second, and somebody else gets its descriptor and slot.
    descriptor, old_key = second.ours.fileno(), second.inlet.key
    second.close()
    successor = Caller(box, 1)
    assert descriptor in (successor.ours.fileno(), successor.theirs.fileno())
    assert successor.inlet.key not in (old_key, first.inlet.key)
    first.close()
    assert not box.is_due(0.02)
    successor.send_store("1.2.3")
    box.turn_until(lambda: box.stored == 1)
    assert successor.answers() == response("1.2.3")
    assert successor.notices == []
    successor.close()


def test_an_inlet_that_nobody_holds_any_more_has_left(box: ReceptionBox) -> None:
    caller = Caller(box, 0)
    caller.send_store("1.2.3")
    del caller.inlet
    assert not box.is_due(0.02)
    again = Caller(box, 0)
    again.close()


def test_a_full_ring_is_waited_for_and_goes_on_by_itself(box: ReceptionBox) -> None:
    """The peer has sent all it has: no new byte will wake anybody."""
    caller = Caller(box, 0)
    data_set = bytes(range(256)) * 12_000
    stream = store("1.2.3", data_set)
    sent = 0
    caller.theirs.setblocking(False)

    def more() -> bool:
        nonlocal sent
        with contextlib.suppress(BlockingIOError):
            sent += caller.theirs.send(stream[sent : sent + 65536]) if sent < len(stream) else 0
        return box.stored == 1

    box.turn_until(more, seconds=30)
    assert caller.answers() == response("1.2.3")
    assert box.notices == []
    assert caller.inlet.quiet_since == caller.inlet.quiet_since, "it is the peer's turn"
    assert box.count(Counter.RECEIVED_BYTES) == len(stream)
    reader = box.spools.reader()
    assert reader.read(1, 1)[0][4] > len(data_set)
    caller.close()


def test_an_instance_outlives_its_association(box: ReceptionBox) -> None:
    """Its slot comes back when the disk is done with it, and only then."""
    caller = Caller(box, 1)
    caller.send_store("1.2.3")
    box.turn()
    caller.close()
    assert not box.spool.cancel(1)
    box.turn_until(lambda: bool(box.notices))
    assert box.notices == [(_core.NOTICE_FREED, 0, 1)]
    assert box.stored == box.count(Counter.STORED_INSTANCES) == 1
    assert box.count(Counter.STORE_SUCCESS) == 0, "nobody was told"
    again = Caller(box, 1)
    again.send_store("1.2.4")
    box.turn_until(lambda: box.stored == 2)
    assert again.answers() == response("1.2.4")
    again.close()


def test_an_instance_that_cannot_be_stored_is_the_callers_to_answer(tmp_path: Path) -> None:
    box = ReceptionBox(tmp_path, segments_max=1, journal_wait_ms_max=50)
    caller = Caller(box, 0)
    for number in range(SEGMENT_BYTES // 100_000 + 2):
        caller.send_store(f"1.2.{number}", b"d" * 100_000)
        stored = box.stored
        box.turn_until(lambda before=stored: box.stored > before or bool(box.notices))  # type: ignore[misc]
        if box.notices:
            break
    ((kind, code),) = caller.notices
    assert kind == _core.NOTICE_FAILED
    assert code > 0
    assert box.count(Gauge.STORE_FAULT) == code
    revealed = caller.cutter.reveal_store()
    assert revealed is not None
    assert (revealed[0], revealed[2], revealed[3]) == (CONTEXT, 100_000, True)
    caller.close()
    box.close()


def test_what_the_caller_has_to_answer_comes_before_what_is_read_next(box: ReceptionBox) -> None:
    """A store that Python began is durable, and the next request is there, in the same turn."""
    caller = Caller(box, 0)
    command = wire.store_command(wire.CT_IMAGE, "1.2.3", 1) + b"\0\0\x31\x10\2\0\0\0\1\0"
    caller.theirs.sendall(
        wire.pdu(wire.P_DATA, pdv(CONTEXT, 3, command))
        + wire.pdu(wire.P_DATA, pdv(CONTEXT, 2, b"d" * 100))
    )
    box.turn_until(lambda: bool(box.notices))
    assert caller.notices == [(_core.NOTICE_RECEIVED, _core.RECEIVED_EVENT)]
    assert caller.cutter.next_event() is not None
    box.spool.begin(0, HEAD, b"p", True)
    caller.cutter.expect_data(CONTEXT)
    assert caller.inlet.receive() == _core.RECEIVED_EVENT
    event = caller.cutter.next_event()
    assert event is not None
    assert event[0] == _core.EVENT_DATASET
    assert caller.inlet.receive() == _core.RECEIVED_AGAIN
    box.notices.clear()
    box.spool.flush()
    assert box.is_due(10.0), "the spool has nothing to tell"
    caller.send_store("1.2.4")
    box.turn_until(lambda: bool(box.notices))
    ((kind, _),) = caller.notices
    assert kind == _core.NOTICE_STORED
    assert caller.cutter.reveal_store() is None, "nothing was begun before that was answered"
    box.turn_until(lambda: box.stored == 2)
    assert caller.answers() == response("1.2.4")
    caller.close()


def test_a_peer_that_sends_without_end_leaves_others_their_turn(box: ReceptionBox) -> None:
    """Echo requests by the thousand: a turn's budget ends, what was read goes on by itself."""
    caller = Caller(box, 0)
    echo = wire.pdu(wire.P_DATA, pdv(CONTEXT, 3, wire.echo_command(1)))
    caller.theirs.sendall(echo * 500)
    events = [0]

    def all_came() -> bool:
        for _ in box.notices:
            code = _core.RECEIVED_EVENT
            of_turn = 0
            while code == _core.RECEIVED_EVENT:
                assert caller.cutter.next_event() is not None
                of_turn += 1
                code = caller.inlet.receive()
            most = limits.receive_bytes_per_turn // limits.receive_bytes_per_event
            assert of_turn <= most
            events[0] += of_turn
        box.notices.clear()
        return events[0] == 500

    box.turn_until(all_came)
    assert not box.is_due(0.02)
    caller.close()


def test_lines_for_the_log_are_those_the_log_would_write(box: ReceptionBox) -> None:
    log = Log("info", process="storage_scp")
    caller = Caller(box, 0)
    fields = {"association": "1-1", "calling_ae": 'A"\\Ä', "sop_instance_uid": MARK, "status": "0"}
    caller.inlet.log_as(*log.pieces("info", "instance_stored", fields, MARK))
    caller.send_store("1.2.3")
    box.turn_until(lambda: box.stored == 1)
    assert box.lines == [], "not unless they are asked for"
    box.reception.log(True)
    caller.send_store("1.2.4")
    box.turn_until(lambda: box.stored == 2)
    (line,) = box.lines
    assert line.isascii()
    assert line.endswith(b"}\n")
    said = orjson.loads(line)
    wanted = {"process": "storage_scp", **fields, "sop_instance_uid": "1.2.4"}
    assert list(said) == ["ts", "level", "event", *wanted, "bytes", "seconds"]
    assert {name: said[name] for name in wanted} == wanted
    assert said["bytes"] > 5000
    assert 0 < said["seconds"] < 10
    assert abs(_moment(said["ts"]) - _moment(orjson.loads(log._line("info", "x", {}))["ts"])) < 60
    caller.close()


def _moment(text: str) -> float:
    from datetime import datetime

    assert len(text) == len("2026-11-23T18:43:59.473974Z")
    return datetime.fromisoformat(text).timestamp()


def test_a_data_set_of_no_byte_is_no_instance(box: ReceptionBox) -> None:
    caller = Caller(box, 0)
    caller.send_store("1.2.1", b"")
    box.turn_until(lambda: bool(box.notices))
    assert caller.notices == [(_core.NOTICE_FAILED, errno.ENODATA)]
    assert box.count(Gauge.STORE_FAULT) == 0, "the disk is not at fault"
    assert box.stored == box.spool.durable_sequence == 0
    revealed = caller.cutter.reveal_store()
    assert revealed is not None
    assert revealed[2:4] == (0, True)
    caller.close()


def test_a_message_is_timed_from_its_first_byte_and_its_data_set_anew(box: ReceptionBox) -> None:
    caller = Caller(box, 0)
    whole = store("1.2.3", b"d" * 5000)
    assert caller.inlet.message == (0, 0)

    def since_behind(part: bytes, received: int) -> float:
        caller.theirs.sendall(part)
        box.turn_until(lambda: caller.inlet.message[1] == received)
        return caller.inlet.message[0]

    command = since_behind(whole[:60], 60)
    assert since_behind(whole[60:100], 100) == command > 0
    data = since_behind(whole[100:1000], 900)
    assert data > command
    assert since_behind(whole[1000:-10], len(whole) - 110) == data
    assert caller.inlet.progress == (0, 4990, 0), "nothing came of it yet"
    caller.theirs.sendall(whole[-10:])
    box.turn_until(lambda: box.stored == 1)
    assert caller.inlet.message == (0, 0), "it has ended"
    when, data_bytes, stored = caller.inlet.progress
    assert (data_bytes, stored) == (5000, 1)
    assert when > data, "an instance is progress"
    caller.close()
