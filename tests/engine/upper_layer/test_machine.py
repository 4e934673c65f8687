"""The transition table against a foreign one, and its two forked actions."""

import subprocess
import sys

import pytest
from pynetdicom import fsm

from engine.upper_layer.table import (
    NEXT_STATES,
    TRANSITIONS,
    Action,
    Event,
    ProtocolState,
    TransitionError,
    diagram,
    step,
    table_markdown,
)


def test_every_cell_is_that_of_a_foreign_table() -> None:
    ours = {
        (event.name, state.name): action.value
        for (state, event), (action, _) in TRANSITIONS.items()
    }
    assert ours == fsm.TRANSITION_TABLE


def test_next_states_are_those_of_a_foreign_table() -> None:
    for action, ends in NEXT_STATES.items():
        foreign = fsm.ACTIONS[action.value][2]
        assert set((foreign,) if isinstance(foreign, str) else foreign) == {e.name for e in ends}


def test_every_pair_is_a_cell_or_an_error() -> None:
    blank = 0
    for state in ProtocolState:
        for event in Event:
            if (state, event) in TRANSITIONS:
                assert step(state, event) == TRANSITIONS[state, event]
            else:
                blank += 1
                with pytest.raises(TransitionError, match=event.name):
                    step(state, event)
    assert blank == 13 * 19 - len(TRANSITIONS)


@pytest.mark.parametrize("event", [3, 4, 6, 10, 12, 13, 16, 17, 19])
def test_a_peer_never_finds_a_blank_cell(event: int) -> None:
    for state in set(ProtocolState) - {ProtocolState.Sta1, ProtocolState.Sta4}:
        step(state, Event(event))


def test_forks() -> None:
    assert step(ProtocolState.Sta2, Event.Evt6) == (Action.AE_6, ProtocolState.Sta3)
    assert step(ProtocolState.Sta2, Event.Evt6, other_end=True) == (
        Action.AE_6,
        ProtocolState.Sta13,
    )
    assert step(ProtocolState.Sta7, Event.Evt12) == (Action.AR_8, ProtocolState.Sta9)
    assert step(ProtocolState.Sta7, Event.Evt12, other_end=True) == (
        Action.AR_8,
        ProtocolState.Sta10,
    )
    with pytest.raises(TransitionError, match="one end"):
        step(ProtocolState.Sta6, Event.Evt12, other_end=True)


def test_collision_rows_lead_both_sides_home() -> None:
    """Requestor: 6-7-9-11-1. Acceptor: 6-7-10-12-13-1. PS3.8 7.2.2.7."""
    state, walk = ProtocolState.Sta6, []
    for event in (Event.Evt11, Event.Evt12, Event.Evt14, Event.Evt13):
        action, state = step(state, event)
        walk.append((action.value, int(state)))
    assert walk == [("AR-1", 7), ("AR-8", 9), ("AR-9", 11), ("AR-3", 1)]
    state, walk = ProtocolState.Sta6, []
    for event, other in ((11, False), (12, True), (13, False), (14, False), (17, False)):
        action, state = step(state, Event(event), other)
        walk.append((action.value, int(state)))
    assert walk == [("AR-1", 7), ("AR-8", 10), ("AR-10", 12), ("AR-4", 13), ("AR-5", 1)]


def test_prints_itself() -> None:
    table = table_markdown()
    assert table.count("\n") == 1 + len(Event)
    assert table.count("→") == len(TRANSITIONS)
    assert "Sta6 --> Sta8: Evt12 AR-2" in diagram()
    printed = subprocess.run(
        [sys.executable, "-m", "engine.upper_layer.table"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert table in printed.stdout
    assert diagram() in printed.stdout
