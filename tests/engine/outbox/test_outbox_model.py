"""The outbox against a plain model of it: any order of everything that may happen to it.

Instances and studies are few, so that a delivery is often asked for again while it waits, is held
or under way. Rules take plain values only: what a run at random finds can be written down as it is.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.outbox.outbox import Outbox
from engine.outbox.records import BLOCKED, NewDelivery, State
from engine.outbox.writer import OutboxWriter
from tests.rigs.outbox_tables import check_tables

DESTINATIONS: Final = ("A", "AB")  # one begins like the other: keys must not run into each other
destinations = st.sampled_from(DESTINATIONS)
instances = st.sampled_from(["1.1", "1.2", "1.3"])
studies = st.sampled_from(["1", "1.0"])
which = st.integers(0, 7)  # of what there is, counted round
# Of all numbers ever given, counted from the last; 0 is one that was not given yet.
backwards = st.lists(st.integers(0, 12), max_size=4, unique=True)
files = st.sampled_from(["", "", "f1", "f2"])


@dataclass
class Plain:
    """What the model knows of a delivery."""

    number: int
    destination: str
    instance: str
    study: str
    file: str
    state: State = State.WAITING
    attempts: int = 0
    due: int = 0
    changed: int = 0
    rank: int = 0  # that its study had when it was in line


class OutboxMachine(RuleBasedStateMachine):
    """Each rule does one thing to the outbox and to a list of deliveries, in plain words."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="outbox"))
        self.writer = OutboxWriter(self.directory)
        self.known: dict[int, Plain] = {}
        self.ranks: dict[tuple[str, str], int] = {}
        self.paused: set[str] = set()
        self.now = 1000
        self.last_number = 0

    def teardown(self) -> None:
        self.writer.close()
        shutil.rmtree(self.directory)

    # --- the model ---
    def of_target(self, destination: str, instance: str) -> list[Plain]:
        return [
            each
            for each in self.known.values()
            if (each.destination, each.instance) == (destination, instance)
            and each.state is not State.DELIVERED
        ]

    def is_blocked(self, plain: Plain) -> bool:
        rivals = self.of_target(plain.destination, plain.instance)
        return any(rival.state is State.SENDING for rival in rivals if rival is not plain)

    def in_line(self, destination: str) -> list[Plain]:
        """What may be leased, in the order in which it should be."""
        waiting = [
            each
            for each in self.known.values()
            if each.destination == destination
            and each.state is State.WAITING
            and not self.is_blocked(each)
        ]
        return sorted(waiting, key=lambda each: (self.ranks[destination, each.study], each.number))

    def rank_studies(self) -> None:
        """Give ranks to studies that begin to wait, take them from those of which nothing waits
        or is being sent any more."""
        for destination in DESTINATIONS:
            ranked: dict[str, list[Plain]] = {}
            for each in self.known.values():
                if each.destination != destination:
                    continue
                in_line = each.state is State.WAITING and not self.is_blocked(each)
                if in_line or each.state is State.SENDING:
                    ranked.setdefault(each.study, []).append(each)
            for key in [key for key in self.ranks if key[0] == destination]:
                if key[1] not in ranked:
                    del self.ranks[key]
            for study, those in ranked.items():
                if (destination, study) not in self.ranks:
                    assert len(those) == 1, "rank_studies() follows each single change"
                    self.ranks[destination, study] = those[0].rank or those[0].number
                for each in those:
                    each.rank = self.ranks[destination, study]

    def change(self, plain: Plain, state: State) -> None:
        plain.state = state
        plain.changed = self.now
        self.rank_studies()

    def give_back(self, plain: Plain, state: State) -> None:
        newer = [x for x in self.of_target(plain.destination, plain.instance) if x is not plain]
        if newer:
            del self.known[plain.number]
            self.rank_studies()
        else:
            self.change(plain, state)

    def one(self, which: int) -> Plain:
        numbers = sorted(self.known)
        return self.known[numbers[which % len(numbers)]]

    def some(self, backwards: Iterable[int]) -> list[int]:
        """Numbers that may or may not be good ones, each once."""
        return [self.last_number + 1 - each for each in backwards if each <= self.last_number + 1]

    # --- what happens ---
    @rule(destination=destinations, instance=instances, study=studies, file=files)
    def enqueue(self, destination: str, instance: str, study: str, file: str) -> None:
        asked = NewDelivery(destination, instance, "1.2", study, "1", "1.2", 1, "rule", file)
        number = self.writer.commit(lambda outbox: outbox.enqueue(asked, self.now))
        opened = [
            each
            for each in self.of_target(destination, instance)
            if each.state is not State.SENDING
        ]
        assert len(opened) <= 1
        held = any(each.state is State.HELD for each in opened)
        if opened and opened[0].study == study:
            assert number == opened[0].number
            opened[0].file = file
            if not held:  # what waits already keeps its place, so its study keeps its rank
                opened[0].attempts = 0
                opened[0].due = self.now
                self.change(opened[0], State.WAITING)
            return
        assert number > self.last_number
        self.last_number = number
        if opened:
            del self.known[opened[0].number]
            self.rank_studies()
        fresh = Plain(number, destination, instance, study, file, due=self.now)
        self.known[number] = fresh
        self.change(fresh, State.HELD if held else State.WAITING)

    @initialize(asked=st.lists(st.tuples(destinations, instances, studies), max_size=6))
    def begin_with(self, asked: list[tuple[str, str, str]]) -> None:
        for destination, instance, study in asked:
            self.enqueue(destination, instance, study, "")

    @precondition(lambda self: self.known)
    @rule(which=which, file=files)
    def ask_again(self, which: int, file: str) -> None:
        """For what is known already: it keeps its place while it waits or is held."""
        plain = self.one(which)
        self.enqueue(plain.destination, plain.instance, plain.study, file)

    @rule(destination=destinations, count=st.integers(0, 3), later=st.sampled_from([0, 0, 10, 50]))
    def lease(self, destination: str, count: int, later: int) -> None:
        self.now += later
        leased = self.writer.commit(lambda outbox: outbox.lease(destination, count, self.now))
        expected: list[Plain] = []
        if destination not in self.paused:
            due = sorted(
                (each.due, each.number)
                for each in self.known.values()
                if each.destination == destination
                and each.state is State.RETRYING
                and each.due <= self.now
            )
            for _, number in due[:count]:
                self.change(self.known[number], State.WAITING)
            expected = self.in_line(destination)[:count]
        assert [each.number for each in leased] == [each.number for each in expected]
        for each in expected:
            self.change(each, State.SENDING)

    @precondition(lambda self: self.known)
    @rule(which=which, status=st.sampled_from([0, 0xB000]))
    def deliver(self, which: int, status: int) -> None:
        plain = self.one(which)
        number = plain.number
        done = self.writer.commit(lambda outbox: outbox.delivered(number, self.now, status, "w"))
        assert done == (plain.state is State.SENDING)
        if done:
            plain.attempts += 1
            plain.file = ""
            self.change(plain, State.DELIVERED)

    @precondition(lambda self: self.known)
    @rule(which=which, pause=st.sampled_from([None, 0, 10, 50]))
    def fail(self, which: int, pause: int | None) -> None:
        plain = self.one(which)
        number = plain.number
        due = None if pause is None else self.now + pause
        done = self.writer.commit(
            lambda outbox: outbox.attempt_failed(number, self.now, "reason", 0xA700, due)
        )
        assert done == (plain.state is State.SENDING)
        if done:
            plain.attempts += 1
            plain.due = self.now if due is None else due
            self.give_back(plain, State.FAILED if due is None else State.RETRYING)

    @rule()
    def sender_starts(self) -> None:
        sending = [each for each in self.known.values() if each.state is State.SENDING]
        assert self.writer.commit(Outbox.return_leases) == len(sending)
        for each in sorted(sending, key=lambda each: (each.destination, each.number)):
            self.give_back(each, State.WAITING)

    @rule()
    def reopen(self) -> None:
        self.writer.close()
        self.writer = OutboxWriter(self.directory)

    @rule(backwards=backwards, order=st.sampled_from(["hold", "release", "retry", "discard"]))
    def order(self, backwards: list[int], order: str) -> None:
        numbers = self.some(backwards)
        changed = self.writer.commit(lambda outbox: getattr(outbox, order)(numbers, self.now))
        fitting = {
            "hold": (State.WAITING, State.RETRYING),
            "release": (State.HELD,),
            "retry": (State.FAILED, State.RETRYING),
            "discard": (*set(State) - {State.SENDING},),
        }[order]
        expected = [n for n in numbers if n in self.known and self.known[n].state in fitting]
        assert [each.number for each in changed] == expected
        for number in expected:
            plain = self.known[number]
            if order == "discard":
                del self.known[number]
                self.rank_studies()
                continue
            if order == "retry":
                plain.attempts = 0
                plain.due = self.now
            self.change(plain, State.HELD if order == "hold" else State.WAITING)

    @rule(destination=destinations, paused=st.booleans())
    def pause(self, destination: str, paused: bool) -> None:
        self.writer.commit(lambda outbox: outbox.pause(destination, paused))
        self.paused = self.paused | {destination} if paused else self.paused - {destination}

    @rule(ago=st.integers(0, 60))
    def prune(self, ago: int) -> None:
        before = self.now - ago
        old = [
            number
            for number, each in self.known.items()
            if each.state is State.DELIVERED and each.changed < before
        ]
        assert self.writer.commit(lambda outbox: outbox.prune_delivered(before)) == len(old)
        for number in old:
            del self.known[number]

    # --- what always holds ---
    @invariant()
    def the_outbox_is_as_the_model_says(self) -> None:
        with self.writer.view() as outbox:
            found = list(outbox.deliveries())
            assert [each.number for each in found] == sorted(self.known)
            for each in found:
                plain = self.known[each.number]
                assert each.state is plain.state
                assert (each.destination, each.sop_instance_uid, each.study_uid, each.file) == (
                    plain.destination,
                    plain.instance,
                    plain.study,
                    plain.file,
                )
                assert (each.attempts, each.due_ns) == (plain.attempts, plain.due)
            assert outbox.paused() == self.paused
            counted = Counter((each.destination, each.state) for each in self.known.values())
            assert outbox.counts() == dict(counted)
            for destination in DESTINATIONS:
                self.check_due(outbox, destination)
                for state in State:
                    listed = [each.number for each in outbox.deliveries(state, destination)]
                    assert listed == sorted(
                        number
                        for number, each in self.known.items()
                        if (each.state, each.destination) == (state, destination)
                    )
            for name in ("f1", "f2"):
                assert outbox.names_file(name) == any(
                    each.file == name for each in self.known.values()
                )

    def check_due(self, outbox: Outbox, destination: str) -> None:
        retrying = [
            each.due
            for each in self.known.values()
            if (each.state, each.destination) == (State.RETRYING, destination)
        ]
        expected = None if destination in self.paused else min(retrying, default=None)
        assert outbox.next_due_ns(destination, self.now) == expected
        line = self.in_line(destination)
        first = outbox.first_in_line(destination)
        assert (first.number if first else None) == (line[0].number if line else None)

    @invariant()
    def the_tables_agree(self) -> None:
        with self.writer.view() as outbox:
            check_tables(outbox)
            for each in outbox.deliveries(State.WAITING):
                blocked = self.is_blocked(self.known[each.number])
                rank = self.ranks.get((each.destination, each.study_uid))
                assert each.place == (BLOCKED if blocked else rank)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# What runs at random have found, each a row of (rule, values); `python -m tests.randomised` adds
# to them.
EXAMPLES: Final[list[list[tuple[str, dict[str, Any]]]]] = [
    [  # a study of which one delivery waits, asked for again, lost its rank to a later one
        ("enqueue", {"destination": "AB", "instance": "1.0.0", "study": "", "file": ""}),
        ("enqueue", {"destination": "AB", "instance": "1.0.1", "study": "1", "file": ""}),
        ("enqueue", {"destination": "AB", "instance": "1.1.0", "study": "", "file": ""}),
        ("enqueue", {"destination": "AB", "instance": "1.0.0", "study": "1", "file": ""}),
        ("enqueue", {"destination": "AB", "instance": "1.1.0", "study": "", "file": ""}),
    ],
    [  # what is held stays held when its instance comes in another study
        ("enqueue", {"destination": "A", "instance": "1.1", "study": "1", "file": ""}),
        ("order", {"backwards": [1], "order": "hold"}),
        ("enqueue", {"destination": "A", "instance": "1.1", "study": "1.0", "file": ""}),
    ],
    [  # what is not due yet is not woken
        ("enqueue", {"destination": "A", "instance": "1.1", "study": "1", "file": ""}),
        ("lease", {"destination": "A", "count": 1, "later": 0}),
        ("fail", {"which": 0, "pause": 50}),
        ("lease", {"destination": "A", "count": 1, "later": 10}),
    ],
    [  # the file of what ended well is nobody's any more; what ended now is no old history
        ("enqueue", {"destination": "A", "instance": "1.1", "study": "1", "file": "f1"}),
        ("lease", {"destination": "A", "count": 1, "later": 0}),
        ("deliver", {"which": 0, "status": 0}),
        ("prune", {"ago": 0}),
    ],
    [  # what is being sent cannot be discarded
        ("enqueue", {"destination": "A", "instance": "1.1", "study": "1", "file": ""}),
        ("lease", {"destination": "A", "count": 1, "later": 0}),
        ("order", {"backwards": [1], "order": "discard"}),
    ],
]


@pytest.mark.parametrize("steps", EXAMPLES)
def test_what_was_found_at_random(steps: list[tuple[str, dict[str, Any]]]) -> None:
    machine = OutboxMachine()
    try:
        for name, values in steps:
            getattr(machine, name)(**values)
            machine.the_outbox_is_as_the_model_says()
            machine.the_tables_agree()
    finally:
        machine.teardown()
