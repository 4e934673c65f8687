"""What an association hears and what it asks for: the whole interface of the protocol core.

The worker turns sockets, timers and completions into inputs and carries out the effects in the
order given. Neither side knows how the other works.
"""

from dataclasses import dataclass

from engine.upper_layer.negotiation import AcceptedAssociation

# --- inputs --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TransportOpened:
    """A connection was taken; the first input of every association."""


@dataclass(frozen=True, slots=True)
class PduReceived:
    """Any PDU that is not part of a message."""

    pdu_type: int
    body: bytes


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A message's whole command set."""

    context_id: int
    command_set: bytes


@dataclass(frozen=True, slots=True)
class DatasetReceived:
    """The last fragment of the data set came."""

    context_id: int
    length: int


@dataclass(frozen=True, slots=True)
class StreamFault:
    """The bytes cannot be cut into PDUs or PDVs any more; `reason` is that of PS3.8 9.3.8."""

    reason: int
    text: str


@dataclass(frozen=True, slots=True)
class StoreFinished:
    """The instance begun is durable (status 0000) or has failed.

    A failure may come before the data set's end: its rest is dropped as it comes, and the
    response waits for it.
    """

    status: int
    comment: str


@dataclass(frozen=True, slots=True)
class TransportClosed:
    """The peer closed the connection, or it broke."""


@dataclass(frozen=True, slots=True)
class TimerExpired:
    """`Association.deadline` has passed. A late or early one is harmless."""


@dataclass(frozen=True, slots=True)
class DrainExpired:
    """The process ends and waits no longer."""


@dataclass(frozen=True, slots=True)
class SlotWanted:
    """Somebody else gets the slot of this association (engine/upper_layer/slots.py)."""

    reason: str


Input = (
    TransportOpened
    | PduReceived
    | CommandReceived
    | DatasetReceived
    | StreamFault
    | StoreFinished
    | TransportClosed
    | TimerExpired
    | DrainExpired
    | SlotWanted
)

# --- effects -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE-RQ that was found good."""

    context_id: int
    message_id: int
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    calling_ae_title: str
    called_ae_title: str
    explicit_vr: bool


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes for the peer, in one write."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Established:
    """The association counts from now on, and message fragments are legal."""

    accepted: AcceptedAssociation


@dataclass(frozen=True, slots=True)
class BeginStore:
    """A data set follows that is to be kept."""

    request: StoreRequest


@dataclass(frozen=True, slots=True)
class DiscardDataset:
    """A data set follows that is to be read and dropped."""

    context_id: int


@dataclass(frozen=True, slots=True)
class ExpectCommand:
    """The next message begins with a command."""


@dataclass(frozen=True, slots=True)
class CancelStore:
    """The instance under way is given up: its data set will not be complete."""


@dataclass(frozen=True, slots=True)
class CloseTransport:
    """The association is over; the last effect of every association, exactly once."""


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the log. `fields` hold no patient data."""

    level: str
    event: str
    fields: dict[str, str | int]


Effect = (
    Send
    | Established
    | BeginStore
    | DiscardDataset
    | ExpectCommand
    | CancelStore
    | CloseTransport
    | Note
)
