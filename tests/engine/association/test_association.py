"""The association set up and at work: acceptance, refusals, messages, their order."""

import pytest

from engine.association.events import (
    BeginStore,
    CancelStore,
    CloseTransport,
    CommandReceived,
    DatasetReceived,
    DiscardDataset,
    Established,
    ExpectCommand,
    Input,
    Note,
    PduReceived,
    Send,
    SlotWanted,
    StoreFinished,
    StoreRequest,
    StreamFault,
    TransportClosed,
    TransportOpened,
)
from engine.dictionary.contexts import DEFAULT_CONTEXTS
from engine.upper_layer.negotiation import AcceptorPolicy
from engine.upper_layer.table import ProtocolState
from tests.material import wire
from tests.rigs.association_driver import (
    ARTIM,
    CT_EXPLICIT,
    CT_IMPLICIT,
    IDLE,
    INSTANCE,
    POLICY,
    VERIFICATION,
    Driver,
    assert_aborted,
    kinds,
    notes,
    only,
    response,
    sent,
    status,
)

# --- set-up --------------------------------------------------------------------------------------


def test_opening() -> None:
    driver = Driver()
    assert driver.it.deadline is None
    assert driver(TransportOpened()) == []
    assert driver.it.state is ProtocolState.Sta2
    assert driver.it.deadline == driver.now + ARTIM
    effects = driver.pdu(wire.associate_request(wire.storage_contexts()))
    assert kinds(effects) == [Established, Send]
    answer = sent(effects)
    assert answer.kind == wire.ASSOCIATE_AC
    assert all(result == 0 for result, _ in wire.accepted_contexts(answer.body).values())
    assert wire.user_items(answer.body)[0x51] == (16378).to_bytes(4, "big")
    accepted = only(effects, Established).accepted
    assert accepted.calling_ae_title == "TESTER"
    assert accepted.contexts[CT_EXPLICIT].transfer_syntax == wire.EXPLICIT
    assert driver.it.deadline == driver.now + IDLE


def test_rejections() -> None:
    for request, has_room, expected in [
        (wire.associate_request(wire.storage_contexts(), version=2), True, (1, 2, 2)),
        (wire.associate_request(wire.storage_contexts()), False, (2, 3, 2)),
        (wire.associate_request(wire.storage_contexts(), calling=" "), False, (1, 1, 3)),
        (
            wire.associate_request(wire.storage_contexts(), application_context=b""),
            True,
            (1, 1, 2),
        ),
    ]:
        driver = Driver(has_room=lambda _, room=has_room: room)
        driver(TransportOpened())
        driver.now += ARTIM / 2  # the timer that the rejection starts is not the first one
        effects = driver.pdu(request)
        assert kinds(effects) == [Send]
        assert sent(effects).rejection == expected
        note = only(effects, Note)
        assert (note.event, note.fields["reason"]) == ("association_rejected", expected[2])
        assert driver.it.state is ProtocolState.Sta13
        assert driver.it.deadline == driver.now + ARTIM
        assert kinds(driver(TransportClosed())) == [CloseTransport]


def test_version_bits_beyond_the_first_do_not_matter() -> None:
    driver = Driver()
    driver(TransportOpened())
    driver.pdu(wire.associate_request(wire.storage_contexts(), version=3))
    assert driver.it.state is ProtocolState.Sta6


def test_room_is_asked_last_and_once() -> None:
    asked = []
    policy = AcceptorPolicy("SCP_AE", (), ("CT1",), (), dict(DEFAULT_CONTEXTS))
    driver = Driver(policy, lambda _: bool(asked.append(1)) or True)
    driver(TransportOpened())
    driver.pdu(wire.associate_request(wire.storage_contexts()))
    assert asked == []
    driver = Driver(POLICY, lambda _: bool(asked.append(1)) or True)
    driver.established()
    assert asked == [1]


@pytest.mark.parametrize("event", [
    PduReceived(2, b""), PduReceived(3, b""), PduReceived(4, b""), PduReceived(5, bytes(4)),
    PduReceived(6, bytes(4)), PduReceived(0, b""), PduReceived(8, b""), PduReceived(255, b""),
    PduReceived(1, bytes(10)), PduReceived(1, bytes(80)), StreamFault(6, "length"),
])  # fmt: skip
def test_anything_else_before_the_association(event: Input) -> None:
    driver = Driver()
    driver(TransportOpened())
    assert_aborted(driver, driver(event), 0, 0)  # AA-1: service-user source


# --- messages ------------------------------------------------------------------------------------


def test_one_instance() -> None:
    driver = Driver().established()
    effects = driver.store(CT_EXPLICIT)
    assert effects == [
        BeginStore(
            StoreRequest(
                CT_EXPLICIT, 7, wire.CT_IMAGE, INSTANCE, wire.EXPLICIT, "TESTER", "SCP_AE", True
            )
        )
    ]
    assert driver.it.outstanding
    assert driver.it.deadline == driver.now + IDLE
    assert driver(DatasetReceived(CT_EXPLICIT, 1000)) == [ExpectCommand()]
    assert driver.it.outstanding
    assert driver.it.deadline is None, "the peer waits for us"
    answer = response(driver(StoreFinished(0, "")))
    assert answer[0x0100] == wire.us(0x8001)
    assert answer[0x0120] == wire.us(7)
    assert answer[0x0800] == wire.us(0x0101)
    assert answer[0x0900] == wire.us(0)
    assert answer[0x1000] == wire.uid(INSTANCE)
    assert not driver.it.outstanding
    assert driver.it.deadline == driver.now + IDLE


def test_many_instances_and_echoes() -> None:
    driver = Driver().established()
    for message in range(1, 50):
        assert kinds(driver.store(message=message)) == [BeginStore]
        driver(DatasetReceived(CT_IMPLICIT, 10))
        answer = response(driver(StoreFinished(0, "")))
        assert answer[0x0120] == wire.us(message)
        effects = driver(CommandReceived(VERIFICATION, wire.echo_command(message)))
        assert status(effects) == 0
        assert ExpectCommand() in effects
        assert not driver.it.outstanding


def test_store_fails_after_the_data_set() -> None:
    driver = Driver().established()
    driver.store()
    driver(DatasetReceived(CT_IMPLICIT, 10))
    answer = response(driver(StoreFinished(0x0110, "disk is full")))
    assert (answer[0x0900], answer[0x0902]) == (wire.us(0x0110), b"disk is full")
    assert driver.it.state is ProtocolState.Sta6
    assert kinds(driver.store()) == [BeginStore], "the association lives on"


def test_store_fails_within_the_data_set() -> None:
    """The response waits until the peer has sent all of it."""
    driver = Driver().established()
    driver.store()
    assert driver(StoreFinished(0x0110, "disk is full")) == []
    assert driver.it.outstanding
    effects = driver(DatasetReceived(CT_IMPLICIT, 10))
    assert status(effects) == 0x0110
    assert ExpectCommand() in effects
    assert kinds(driver.store()) == [BeginStore]


@pytest.mark.parametrize(
    ("context_id", "change", "expected", "data"),
    [
        (CT_IMPLICIT, {0x1000: b"../../etc/passwd"}, 0x0110, True),
        (CT_IMPLICIT, {0x1000: b"1" * 66}, 0x0110, True),
        (CT_IMPLICIT, {0x0002: wire.uid(wire.MR_IMAGE)}, 0x0110, True),
        (CT_IMPLICIT, {0x0800: wire.us(0x0101)}, 0x0110, False),
        (CT_IMPLICIT, {0x0100: wire.us(wire.C_FIND_RQ)}, 0x0211, True),
        (CT_IMPLICIT, {0x0100: wire.us(0x7ABC)}, 0x0211, True),
        (CT_IMPLICIT, {0x0100: wire.us(0x30), 0x0800: wire.us(0x0101)}, 0x0211, False),
        (VERIFICATION, {}, 0x0211, True),
        (VERIFICATION, {0x0100: wire.us(0x30), 0x0800: wire.us(0x0101)}, 0x0122, False),
    ],
)
def test_refused_requests(
    context_id: int, change: dict[int, bytes], expected: int, data: bool
) -> None:
    driver = Driver().established()
    elements = wire.store_elements(wire.CT_IMAGE, INSTANCE, 7) | change
    effects = driver(CommandReceived(context_id, wire.joined(elements)))
    note = only(effects, Note)
    assert (note.event, note.fields["status"]) == (
        "request_refused",
        f"{expected:04X}",
    )
    if data:
        assert kinds(effects) == [DiscardDataset]
        assert driver.it.outstanding
        effects = driver(DatasetReceived(context_id, 10))
    assert status(effects) == expected
    assert response(effects)[0x0120] == wire.us(7)
    assert ExpectCommand() in effects
    assert driver.it.state is ProtocolState.Sta6
    assert not driver.it.outstanding
    assert kinds(driver.store()) == [BeginStore]


def test_cancel_is_ignored_and_counted() -> None:
    cancel = wire.joined(
        {0x0100: wire.us(0x0FFF), 0x0120: wire.us(1), 0x0800: wire.us(wire.NO_DATA_SET)}
    )
    driver = Driver().established()
    for _ in range(100):
        assert kinds(driver(CommandReceived(CT_IMPLICIT, cancel))) == [ExpectCommand]
    assert driver.it.cancels_ignored == 100
    assert len([one for one in driver.all if getattr(one, "event", "") == "cancel_ignored"]) == 1
    driver.store()
    driver(DatasetReceived(CT_IMPLICIT, 1))
    driver(CommandReceived(CT_IMPLICIT, cancel))
    assert status(driver(StoreFinished(0, ""))) == 0


def test_second_request_before_the_response() -> None:
    driver = Driver().established()
    driver.store()
    driver(DatasetReceived(CT_IMPLICIT, 10))
    effects = driver.store()
    assert_aborted(driver, effects, 0, 0)
    assert CancelStore() not in effects, "the first one is whole and may become durable"
    late = driver(StoreFinished(0, ""))
    assert kinds(late) == []
    assert only(late, Note).event == "store_not_acknowledged"
    assert not driver.it.outstanding


@pytest.mark.parametrize(
    ("context_id", "command", "abort"),
    [
        (99, wire.echo_command(), (2, 6)),
        (2, wire.echo_command(), (2, 6)),
        (VERIFICATION, b"", (0, 0)),
        (VERIFICATION, wire.echo_command()[:-1], (0, 0)),
        (VERIFICATION, wire.joined({0x0100: wire.us(0x30)}), (0, 0)),
        (
            CT_IMPLICIT,
            wire.joined(wire.store_elements(wire.CT_IMAGE, "1.2") | {0x0100: wire.us(0x8001)}),
            (0, 0),
        ),
    ],
)
def test_broken_commands_abort(context_id: int, command: bytes, abort: tuple[int, int]) -> None:
    driver = Driver().established()
    assert_aborted(driver, driver(CommandReceived(context_id, command)), *abort)


def test_refused_context_is_not_usable() -> None:
    driver = Driver()
    driver(TransportOpened())
    contexts = [
        wire.presentation_context(1, "1.2.3", [wire.IMPLICIT]),
        wire.presentation_context(3, wire.VERIFICATION, [wire.IMPLICIT]),
    ]
    driver.pdu(wire.associate_request(contexts))
    assert_aborted(driver, driver(CommandReceived(1, wire.echo_command())), 2, 6)


def test_data_sets_out_of_place() -> None:
    driver = Driver().established()
    assert_aborted(driver, driver(DatasetReceived(CT_IMPLICIT, 1)), 0, 0)
    driver = Driver().established()
    driver.store()
    effects = driver(DatasetReceived(CT_EXPLICIT, 1))
    assert_aborted(driver, effects, 2, 6)
    assert CancelStore() in effects


def test_tiny_maximum_of_the_peer() -> None:
    driver = Driver()
    driver(TransportOpened())
    request = wire.associate_request(wire.storage_contexts(), user=wire.user_information(20))
    driver.pdu(request)
    data = only(driver(CommandReceived(VERIFICATION, wire.echo_command())), Send).data
    command = b""
    while data:
        length = int.from_bytes(data[2:6], "big")
        assert length <= 20
        command += data[12 : 6 + length]
        data = data[6 + length :]
    assert wire.parse_command(command)[0x0900] == wire.us(0)


def test_a_slot_that_somebody_else_gets() -> None:
    driver = Driver().established()
    effects = driver(SlotWanted("no progress for 9 s"))
    assert_aborted(driver, effects, 0, 0)
    gave_way = next(note for note in notes(effects) if note.event == "association_gave_way")
    assert gave_way.fields == {"reason": "no progress for 9 s"}
    assert driver(SlotWanted("again")) == []
