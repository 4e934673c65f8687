"""Drives an association without a socket or a clock, and reads what it asks for."""

from collections.abc import Callable
from typing import TypeVar

from engine.association.acceptor import Association
from engine.association.events import (
    CommandReceived,
    Effect,
    Input,
    Note,
    PduReceived,
    Send,
    TimerExpired,
    TransportOpened,
)
from engine.dictionary.contexts import DEFAULT_CONTEXTS
from engine.upper_layer.negotiation import AcceptorPolicy
from engine.upper_layer.table import ProtocolState
from tests.material import wire

POLICY = AcceptorPolicy("SCP_AE", (), (), (), dict(DEFAULT_CONTEXTS))
ARTIM, IDLE, MESSAGE = 5.0, 300.0, 60.0
INSTANCE = "1.2.3.4.5"
# Of wire.storage_contexts(): CT implicit, CT explicit, verification.
CT_IMPLICIT, CT_EXPLICIT, VERIFICATION = 1, 3, 21
EffectT = TypeVar("EffectT")


class Driver:
    """An association, its clock, and all it ever asked for."""

    def __init__(
        self, policy: AcceptorPolicy = POLICY, has_room: Callable[[object], bool] = lambda _: True
    ) -> None:
        self.now = 1000.0
        self.it = Association(policy, "127.0.0.1", ARTIM, IDLE, MESSAGE, has_room, self.now)
        self.all: list[Effect] = []

    def __call__(self, event: Input) -> list[Effect]:
        effects = self.it.handle(event, self.now)
        self.all += effects
        return effects

    def pdu(self, data: bytes) -> list[Effect]:
        """A whole PDU."""
        return self(PduReceived(data[0], data[6:]))

    def established(self) -> "Driver":
        """Open it."""
        self(TransportOpened())
        self.pdu(wire.associate_request(wire.storage_contexts()))
        assert self.it.state is ProtocolState.Sta6
        return self

    def store(self, context_id: int = CT_IMPLICIT, message: int = 7) -> list[Effect]:
        """A C-STORE-RQ."""
        command = wire.store_command(wire.CT_IMAGE, INSTANCE, message)
        return self(CommandReceived(context_id, command))

    def elapse(self, seconds: float) -> list[Effect]:
        """Time passes and the timer fires."""
        self.now += seconds
        return self(TimerExpired())


def only(effects: list[Effect], kind: type[EffectT]) -> EffectT:
    """The one effect of this kind."""
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found


def kinds(effects: list[Effect]) -> list[type]:
    """The kinds of effects, without notes."""
    return [type(effect) for effect in effects if not isinstance(effect, Note)]


def notes(effects: list[Effect]) -> list[Note]:
    """What is to be logged."""
    return [effect for effect in effects if isinstance(effect, Note)]


def sent(effects: list[Effect]) -> wire.Pdu:
    """The one PDU sent."""
    data = only(effects, Send).data
    assert int.from_bytes(data[2:6], "big") == len(data) - 6
    return wire.Pdu(data[0], data[6:])


def response(effects: list[Effect]) -> dict[int, bytes]:
    """The one response's elements."""
    pdu = sent(effects)
    assert pdu.kind == wire.P_DATA
    return wire.parse_command(pdu.body[6:])


def status(effects: list[Effect]) -> int:
    """Its status."""
    return int.from_bytes(response(effects)[0x0900], "little")


def assert_aborted(driver: Driver, effects: list[Effect], source: int, reason: int) -> None:
    """A-ABORT was sent, the reason noted, and ARTIM waits for the peer's close."""
    assert sent(effects).abort == (source, reason)
    assert driver.it.state is ProtocolState.Sta13
    assert driver.it.deadline == driver.now + ARTIM
    (note,) = [one for one in notes(effects) if one.event == "association_aborted"]
    assert note.fields["text"]
