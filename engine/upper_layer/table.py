"""PS3.8 table 9-10 as data: the upper layer's states, events, actions and transitions.

`TRANSITIONS` holds every cell of the table that is not blank, for both the requestor's and the
acceptor's side. `step()` is the only way from one state to the next; a blank cell is an error of
ours, for whatever a peer may send has a cell in every state in which a peer can be heard.
`python -m engine.upper_layer.table` prints the table and a diagram from the same data.
"""

from enum import Enum, IntEnum
from typing import Final


class ProtocolState(IntEnum):
    """PS3.8 tables 9-1 to 9-5."""

    Sta1 = 1  # idle
    Sta2 = 2  # transport connection open, awaiting A-ASSOCIATE-RQ
    Sta3 = 3  # awaiting local A-ASSOCIATE response
    Sta4 = 4  # awaiting transport connection opening to complete
    Sta5 = 5  # awaiting A-ASSOCIATE-AC or -RJ
    Sta6 = 6  # association established, ready for data transfer
    Sta7 = 7  # awaiting A-RELEASE-RP
    Sta8 = 8  # awaiting local A-RELEASE response
    Sta9 = 9  # release collision, requestor's side: awaiting local A-RELEASE response
    Sta10 = 10  # release collision, acceptor's side: awaiting A-RELEASE-RP
    Sta11 = 11  # release collision, requestor's side: awaiting A-RELEASE-RP
    Sta12 = 12  # release collision, acceptor's side: awaiting local A-RELEASE response
    Sta13 = 13  # awaiting the transport connection's close


class Event(IntEnum):
    """PS3.8 section 9.2.1, the rows of table 9-10."""

    Evt1 = 1  # A-ASSOCIATE request (local user)
    Evt2 = 2  # transport connection confirmed
    Evt3 = 3  # A-ASSOCIATE-AC PDU received
    Evt4 = 4  # A-ASSOCIATE-RJ PDU received
    Evt5 = 5  # transport connection indicated
    Evt6 = 6  # A-ASSOCIATE-RQ PDU received
    Evt7 = 7  # A-ASSOCIATE response, accept (local user)
    Evt8 = 8  # A-ASSOCIATE response, reject (local user)
    Evt9 = 9  # P-DATA request (local user)
    Evt10 = 10  # P-DATA-TF PDU received
    Evt11 = 11  # A-RELEASE request (local user)
    Evt12 = 12  # A-RELEASE-RQ PDU received
    Evt13 = 13  # A-RELEASE-RP PDU received
    Evt14 = 14  # A-RELEASE response (local user)
    Evt15 = 15  # A-ABORT request (local user)
    Evt16 = 16  # A-ABORT PDU received
    Evt17 = 17  # transport connection closed
    Evt18 = 18  # ARTIM timer expired
    Evt19 = 19  # unrecognized or invalid PDU received


class Action(Enum):
    """PS3.8 tables 9-6 to 9-9. The value is the standard's own name."""

    AE_1 = "AE-1"  # issue transport connect request
    AE_2 = "AE-2"  # send A-ASSOCIATE-RQ
    AE_3 = "AE-3"  # confirm the association, accepted
    AE_4 = "AE-4"  # confirm the association, rejected; close transport
    AE_5 = "AE-5"  # take the transport connection; start ARTIM
    AE_6 = "AE-6"  # stop ARTIM; indicate the association, or send A-ASSOCIATE-RJ and start ARTIM
    AE_7 = "AE-7"  # send A-ASSOCIATE-AC
    AE_8 = "AE-8"  # send A-ASSOCIATE-RJ; start ARTIM
    DT_1 = "DT-1"  # send P-DATA-TF
    DT_2 = "DT-2"  # indicate P-DATA
    AR_1 = "AR-1"  # send A-RELEASE-RQ
    AR_2 = "AR-2"  # indicate the release
    AR_3 = "AR-3"  # confirm the release; close transport
    AR_4 = "AR-4"  # send A-RELEASE-RP; start ARTIM
    AR_5 = "AR-5"  # stop ARTIM
    AR_6 = "AR-6"  # indicate P-DATA
    AR_7 = "AR-7"  # send P-DATA-TF
    AR_8 = "AR-8"  # indicate the release: a collision
    AR_9 = "AR-9"  # send A-RELEASE-RP
    AR_10 = "AR-10"  # confirm the release
    AA_1 = "AA-1"  # send A-ABORT (service-user source); start ARTIM anew
    AA_2 = "AA-2"  # stop ARTIM; close transport
    AA_3 = "AA-3"  # indicate the abort; close transport
    AA_4 = "AA-4"  # indicate A-P-ABORT
    AA_5 = "AA-5"  # stop ARTIM
    AA_6 = "AA-6"  # ignore the PDU
    AA_7 = "AA-7"  # send A-ABORT
    AA_8 = "AA-8"  # send A-ABORT (service-provider source); indicate A-P-ABORT; start ARTIM


# Tables 9-6 to 9-9 tie the next state to the action, not to the cell. Two actions know two ends:
# AE-6 (Sta3 when the request is acceptable to the provider, else Sta13) and AR-8 (Sta9 for the
# association's requestor, Sta10 for its acceptor).
NEXT_STATES: Final[dict[Action, tuple[ProtocolState, ...]]] = {
    Action.AE_1: (ProtocolState.Sta4,),
    Action.AE_2: (ProtocolState.Sta5,),
    Action.AE_3: (ProtocolState.Sta6,),
    Action.AE_4: (ProtocolState.Sta1,),
    Action.AE_5: (ProtocolState.Sta2,),
    Action.AE_6: (ProtocolState.Sta3, ProtocolState.Sta13),
    Action.AE_7: (ProtocolState.Sta6,),
    Action.AE_8: (ProtocolState.Sta13,),
    Action.DT_1: (ProtocolState.Sta6,),
    Action.DT_2: (ProtocolState.Sta6,),
    Action.AR_1: (ProtocolState.Sta7,),
    Action.AR_2: (ProtocolState.Sta8,),
    Action.AR_3: (ProtocolState.Sta1,),
    Action.AR_4: (ProtocolState.Sta13,),
    Action.AR_5: (ProtocolState.Sta1,),
    Action.AR_6: (ProtocolState.Sta7,),
    Action.AR_7: (ProtocolState.Sta8,),
    Action.AR_8: (ProtocolState.Sta9, ProtocolState.Sta10),
    Action.AR_9: (ProtocolState.Sta11,),
    Action.AR_10: (ProtocolState.Sta12,),
    Action.AA_1: (ProtocolState.Sta13,),
    Action.AA_2: (ProtocolState.Sta1,),
    Action.AA_3: (ProtocolState.Sta1,),
    Action.AA_4: (ProtocolState.Sta1,),
    Action.AA_5: (ProtocolState.Sta1,),
    Action.AA_6: (ProtocolState.Sta13,),
    Action.AA_7: (ProtocolState.Sta13,),
    Action.AA_8: (ProtocolState.Sta13,),
}

# Table 9-10, a row for each event; columns Sta1 to Sta13, "." a blank cell.
_TABLE: Final = """
Evt1  AE-1 .    .    .    .    .    .    .    .     .    .    .    .
Evt2  .    .    .    AE-2 .    .    .    .    .     .    .    .    .
Evt3  .    AA-1 AA-8 .    AE-3 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-8 AA-6
Evt4  .    AA-1 AA-8 .    AE-4 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-8 AA-6
Evt5  AE-5 .    .    .    .    .    .    .    .     .    .    .    .
Evt6  .    AE-6 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-8 AA-7
Evt7  .    .    AE-7 .    .    .    .    .    .     .    .    .    .
Evt8  .    .    AE-8 .    .    .    .    .    .     .    .    .    .
Evt9  .    .    .    .    .    DT-1 .    AR-7 .     .    .    .    .
Evt10 .    AA-1 AA-8 .    AA-8 DT-2 AR-6 AA-8 AA-8  AA-8 AA-8 AA-8 AA-6
Evt11 .    .    .    .    .    AR-1 .    .    .     .    .    .    .
Evt12 .    AA-1 AA-8 .    AA-8 AR-2 AR-8 AA-8 AA-8  AA-8 AA-8 AA-8 AA-6
Evt13 .    AA-1 AA-8 .    AA-8 AA-8 AR-3 AA-8 AA-8 AR-10 AR-3 AA-8 AA-6
Evt14 .    .    .    .    .    .    .    AR-4 AR-9  .    .    AR-4 .
Evt15 .    .    AA-1 AA-2 AA-1 AA-1 AA-1 AA-1 AA-1  AA-1 AA-1 AA-1 .
Evt16 .    AA-2 AA-3 .    AA-3 AA-3 AA-3 AA-3 AA-3  AA-3 AA-3 AA-3 AA-2
Evt17 .    AA-5 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4 AA-4  AA-4 AA-4 AA-4 AR-5
Evt18 .    AA-2 .    .    .    .    .    .    .     .    .    .    AA-2
Evt19 .    AA-1 AA-8 .    AA-8 AA-8 AA-8 AA-8 AA-8  AA-8 AA-8 AA-8 AA-7
"""


def _cells() -> dict[tuple[ProtocolState, Event], tuple[Action, ProtocolState]]:
    cells: dict[tuple[ProtocolState, Event], tuple[Action, ProtocolState]] = {}
    for line in _TABLE.strip().splitlines():
        event, *row = line.split()
        assert len(row) == len(ProtocolState), f"{event} has {len(row)} cells"
        for state, name in zip(ProtocolState, row, strict=True):
            if name != ".":
                action = Action(name)
                cells[state, Event[event]] = (action, NEXT_STATES[action][0])
    return cells


# (state, event) -> (action, next state; of the two ends of AE-6 and AR-8, the first)
TRANSITIONS: Final[dict[tuple[ProtocolState, Event], tuple[Action, ProtocolState]]] = _cells()


class TransitionError(Exception):
    """A blank cell of the table: an error of ours, never a peer's."""


def step(
    state: ProtocolState, event: Event, other_end: bool = False
) -> tuple[Action, ProtocolState]:
    """What to do and where to be. `other_end` takes the second end of AE-6 or AR-8."""
    cell = TRANSITIONS.get((state, event))
    if cell is None:
        raise TransitionError(f"{event.name} has no place in {state.name}")
    if not other_end:
        return cell
    ends = NEXT_STATES[cell[0]]
    if len(ends) != 2:
        raise TransitionError(f"{cell[0].value} has one end only")
    return cell[0], ends[1]


def table_markdown() -> str:
    """Table 9-10 with the next states, as markdown."""
    lines = ["| | " + " | ".join(state.name for state in ProtocolState) + " |"]
    lines.append("|---" * (len(ProtocolState) + 1) + "|")
    for event in Event:
        row = []
        for state in ProtocolState:
            cell = TRANSITIONS.get((state, event))
            if cell is None:
                row.append("")
            else:
                ends = "/".join(end.name.removeprefix("Sta") for end in NEXT_STATES[cell[0]])
                row.append(f"{cell[0].value} → {ends}")
        lines.append(f"| {event.name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def diagram() -> str:
    """The same as a Mermaid state diagram."""
    edges: dict[tuple[ProtocolState, ProtocolState], list[str]] = {}
    for (state, event), (action, _) in TRANSITIONS.items():
        for end in NEXT_STATES[action]:
            edges.setdefault((state, end), []).append(f"{event.name} {action.value}")
    lines = ["stateDiagram-v2"]
    for (state, end), labels in sorted(edges.items()):
        lines.append(f"    {state.name} --> {end.name}: {', '.join(labels)}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"{table_markdown()}\n\n```mermaid\n{diagram()}\n```")
