"""How an association ends: releases, collisions, aborts, lost peers, timers; and in any order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.association.events import (
    BeginStore,
    CancelStore,
    CloseTransport,
    CommandReceived,
    DatasetReceived,
    DrainExpired,
    Input,
    Note,
    PduReceived,
    Send,
    StoreFinished,
    StreamFault,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from engine.upper_layer.table import ProtocolState
from native import _core
from tests.material import wire
from tests.rigs.association_driver import (
    ARTIM,
    CT_EXPLICIT,
    CT_IMPLICIT,
    IDLE,
    INSTANCE,
    VERIFICATION,
    Driver,
    assert_aborted,
    kinds,
    notes,
    only,
    sent,
    status,
)

# --- ends ----------------------------------------------------------------------------------------


def test_release() -> None:
    driver = Driver().established()
    driver.now += ARTIM / 2  # the timer is a fresh one
    effects = driver.pdu(wire.pdu(wire.RELEASE_RQ, bytes(4)))
    assert sent(effects).kind == wire.RELEASE_RP
    assert driver.it.state is ProtocolState.Sta13
    assert driver.it.deadline == driver.now + ARTIM
    assert kinds(driver(TransportClosed())) == [CloseTransport]
    assert driver.it.state is ProtocolState.Sta1
    assert driver.it.deadline is None


def test_release_before_the_response() -> None:
    for committing in (False, True):
        driver = Driver().established()
        driver.store()
        if committing:
            driver(DatasetReceived(CT_IMPLICIT, 1))
        effects = driver.pdu(wire.pdu(wire.RELEASE_RQ, bytes(4)))
        assert_aborted(driver, effects, 0, 0)
        assert (CancelStore() in effects) is not committing


def test_abort_by_the_peer() -> None:
    abort = wire.pdu(wire.ABORT, bytes((0, 0, 2, 1)))
    for committing in (False, True):
        driver = Driver().established()
        driver.store()
        if committing:
            driver(DatasetReceived(CT_IMPLICIT, 1))
        effects = driver.pdu(abort)
        assert kinds(effects) == ([] if committing else [CancelStore]) + [CloseTransport]
        note = only(effects, Note)
        assert note.fields == {"source": 2, "reason": 1}
        assert driver.it.state is ProtocolState.Sta1
        assert driver.it.outstanding is committing
        assert kinds(driver(StoreFinished(0 if committing else 0x0110, ""))) == []
        assert not driver.it.outstanding


def test_transport_lost() -> None:
    for phase, expected in (("receiving", [CancelStore]), ("committing", []), ("discarding", [])):
        driver = Driver().established()
        driver.store()
        if phase == "committing":
            driver(DatasetReceived(CT_IMPLICIT, 1))
        elif phase == "discarding":
            driver(StoreFinished(0x0110, "full"))
        effects = driver(TransportClosed())
        assert kinds(effects) == [*expected, CloseTransport]
        assert only(effects, Note).fields["phase"] == phase
        assert driver(TransportClosed()) == [], "once"


@pytest.mark.parametrize(
    ("event", "abort"),
    [
        (PduReceived(1, b""), (2, 2)),
        (PduReceived(2, b""), (2, 2)),
        (PduReceived(3, b""), (2, 2)),
        (PduReceived(6, bytes(4)), (2, 2)),
        (PduReceived(0, b""), (2, 1)),
        (PduReceived(8, b""), (2, 1)),
        (PduReceived(5, bytes(3)), (2, 6)),
        (PduReceived(7, b""), (2, 6)),
        (StreamFault(6, "PDV length"), (2, 6)),
        (StreamFault(5, "unexpected"), (2, 5)),
    ],
)
def test_what_breaks_an_established_association(event: Input, abort: tuple[int, int]) -> None:
    driver = Driver().established()
    driver.store()
    effects = driver(event)
    assert_aborted(driver, effects, *abort)
    assert kinds(effects) == [CancelStore, Send]


@pytest.mark.parametrize(
    ("first_bytes", "said"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "PDU of type 22: this looks like a TLS ClientHello"),
        (b"GET / ", "PDU of type 71: this looks like HTTP (GET)"),
        (b"POST /", "PDU of type 80: this looks like HTTP (POST or PUT)"),
        (b"HEAD /", "PDU of type 72: this looks like HTTP (HEAD)"),
        (b"OPTION", "PDU of type 79: this looks like HTTP (OPTIONS)"),
        (b"\x17\x00\x00\x00\x00\x00", "PDU of type 23"),
    ],
)
def test_strangers_are_named(first_bytes: bytes, said: str) -> None:
    cutter = _core.PduCutter(262144, 16384, 131072, 16378, 64)
    assert cutter.feed(first_bytes) == _core.RECEIVED_EVENT
    event = cutter.next_event()
    assert event is not None
    kind, number, rest = event
    assert kind == _core.EVENT_PDU
    assert isinstance(rest, bytes)
    driver = Driver()
    driver(TransportOpened())
    (note,) = notes(driver(PduReceived(number, rest)))
    assert str(note.fields["text"]).removesuffix(" on a DICOM port") == said


def test_after_our_abort() -> None:
    driver = Driver().established()
    driver(StreamFault(6, "broken"))
    deadline = driver.it.deadline
    driver.now += 1
    for ignored in (
        CommandReceived(1, b"x"),
        DatasetReceived(1, 2),
        PduReceived(2, b""),
        PduReceived(5, bytes(4)),
        PduReceived(4, b""),
    ):
        assert kinds(driver(ignored)) == []
    assert sent(driver(PduReceived(1, b""))).abort == (2, 2)  # AA-7
    assert sent(driver(StreamFault(6, "broken"))).abort == (2, 6)
    assert driver.it.deadline == deadline, "ARTIM does not begin anew"
    assert kinds(driver.pdu(wire.pdu(wire.ABORT, bytes(4)))) == [CloseTransport]


# --- timers --------------------------------------------------------------------------------------


def test_artim() -> None:
    driver = Driver()
    driver(TransportOpened())
    assert driver.elapse(ARTIM - 0.01) == [], "too early"
    driver.it.touch(driver.now)
    assert kinds(driver.elapse(0.01)) == [CloseTransport], "a drip of bytes does not hold it"
    driver = Driver().established()
    driver.pdu(wire.pdu(wire.RELEASE_RQ, bytes(4)))
    assert kinds(driver.elapse(ARTIM)) == [CloseTransport]


def test_idle() -> None:
    driver = Driver().established()
    driver.now += IDLE - 1
    driver.it.touch(driver.now)
    assert driver.elapse(1) == []
    assert driver.elapse(IDLE - 2) == [], "an early timer does not prolong it"
    assert_aborted(driver, driver.elapse(1), 0, 0)
    driver = Driver().established()
    driver.store()
    assert CancelStore() in driver.elapse(IDLE), "a data set that stops coming"


def test_no_timer_while_the_peer_waits_for_us() -> None:
    driver = Driver().established()
    driver.store()
    driver(DatasetReceived(CT_IMPLICIT, 1))
    assert driver.elapse(10 * IDLE) == []
    assert status(driver(StoreFinished(0, ""))) == 0
    assert driver.elapse(IDLE - 1) == [], "the idle time begins with the response"


def test_what_is_told_late_moves_no_deadline() -> None:
    """A store that was begun without the core counts from when it came, and a disk that fails says
    nothing of the peer."""
    driver = Driver().established()
    came, driver.now = driver.now, driver.now + IDLE
    command = wire.store_command(wire.CT_IMAGE, INSTANCE, 7)
    driver.all += driver.it.handle(CommandReceived(CT_IMPLICIT, command), came)
    assert driver.it.deadline == came + IDLE
    driver(StoreFinished(0xA700, "the disk is full"))
    assert_aborted(driver, driver(TimerExpired()), 0, 0)


def test_drain() -> None:
    driver = Driver()
    driver(TransportOpened())
    assert kinds(driver(DrainExpired())) == [CloseTransport]
    driver = Driver().established()
    driver.store()
    effects = driver(DrainExpired())
    assert_aborted(driver, effects, 0, 0)
    assert CancelStore() in effects
    assert kinds(driver(DrainExpired())) == [CloseTransport]


# --- anything in any order -----------------------------------------------------------------------

inputs = st.sampled_from(
    [
        PduReceived(1, wire.associate_request(wire.storage_contexts())[6:]),
        *[PduReceived(kind, bytes(4)) for kind in (0, 2, 3, 4, 5, 6, 7, 9)],
        PduReceived(1, b""),
        CommandReceived(CT_IMPLICIT, wire.store_command(wire.CT_IMAGE, INSTANCE)),
        CommandReceived(CT_IMPLICIT, wire.store_command(wire.MR_IMAGE, INSTANCE)),
        CommandReceived(VERIFICATION, wire.echo_command()),
        CommandReceived(8, b"?"),
        DatasetReceived(CT_IMPLICIT, 5),
        DatasetReceived(CT_EXPLICIT, 5),
        StreamFault(1, "fault"),
        StoreFinished(0, ""),
        StoreFinished(0x0110, "no"),
        TransportClosed(),
        TimerExpired(),
        DrainExpired(),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(inputs, st.sampled_from([0.0, 1.0, ARTIM, IDLE])), max_size=30))
def test_any_order_of_inputs(steps: list[tuple[Input, float]]) -> None:
    """What the worker may do in any order ends well: no error of ours, one close, then silence."""
    driver = Driver()
    driver(TransportOpened())
    begun = finished = 0
    for event, seconds in steps:
        driver.now += seconds
        if isinstance(event, StoreFinished):
            # The disk speaks once for each instance that began, of success only at its end.
            committing = driver.it.outstanding and driver.it.deadline is None
            if begun == finished or (event.status == 0 and not committing):
                continue
            finished += 1
        if event == PduReceived(4, bytes(4)) and driver.it.state in (
            ProtocolState.Sta6,
            ProtocolState.Sta7,
        ):
            continue  # message fragments come as commands and data sets
        effects = driver(event)
        begun += sum(isinstance(one, BeginStore) for one in effects)
        if CancelStore() in effects:
            finished = begun
    closes = [at for at, one in enumerate(driver.all) if isinstance(one, CloseTransport)]
    assert (len(closes) == 1) is (driver.it.state is ProtocolState.Sta1)
    if closes:
        assert all(isinstance(one, Note) for one in driver.all[closes[0] + 1 :])
    else:
        assert driver.it.deadline is not None or driver.it.outstanding
