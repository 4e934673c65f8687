"""Removing against a plain model: any order of everything that may happen to an instance, and
nothing that may not go ever goes.

Instances and studies are few, so that the same one comes, is sent, is removed and comes again.
Rules take plain values only: what a run at random finds can be written down as it is.
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.index.pins import Pin, drop_pin, put_pin
from engine.outbox.records import State
from engine.outbox.view import OutboxView
from engine.removal import remover as remover_module
from engine.removal.eviction import Eviction
from engine.removal.orders import Order, Progress
from engine.retention.choice import Policy, Reason
from engine.settings.retention import Retention
from tests.rigs.indexer_box import data_set
from tests.rigs.removals import RemovalBox, order

JOURNALS: Final = ("scp", "prefetch_scp")
STUDIES: Final = ("1", "2")
instances = st.sampled_from([f"{study}.{number}" for study in STUDIES for number in (1, 2, 3)])
studies = st.sampled_from(STUDIES)
remotes = st.sampled_from(["PACS", "ARC"])


@dataclass
class Plain:
    """An instance that is here. `has`: the remote AEs that have it as it is."""

    journal: str
    content: bytes
    has: set[str] = field(default_factory=set)


class RemovalMachine(RuleBasedStateMachine):
    """Everything that may happen, and a model that only counts."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.box = RemovalBox(self.directory, JOURNALS)
        self.here: dict[str, Plain] = {}
        self.open: dict[tuple[str, str], State] = {}  # by remote AE and instance
        self.pinned: set[str] = set()
        self.orders = 0
        self.fills = 0
        self.now = 1_000_000
        self.portion = remover_module.removal_portion_max
        remover_module.removal_portion_max = 2  # type: ignore[misc]

    def teardown(self) -> None:
        remover_module.removal_portion_max = self.portion  # type: ignore[misc]
        self.box.close()
        shutil.rmtree(self.directory)

    def of(self, study: str) -> dict[str, Plain]:
        return {sop: each for sop, each in self.here.items() if sop.startswith(f"{study}.")}

    def waiting_for(self, sops: set[str]) -> set[State]:
        return {state for (_, sop), state in self.open.items() if sop in sops}

    # --- what comes, is sent, and is wanted ---
    @rule(sop=instances, fetched=st.booleans())
    def receive(self, sop: str, fetched: bool) -> None:
        """Also once more what is here, and what was removed."""
        self.fills += 1
        self.now += 10
        self.box.received = self.now
        fill, journal = bytes((65 + self.fills % 26,)), JOURNALS[fetched]
        self.box.store(sop, journal, study=sop[0], fill=fill)
        assert self.box.index() == []
        self.here[sop] = Plain(journal, data_set(sop, sop[0], fill=fill))

    @rule(sop=instances, remote=remotes)
    def queue(self, sop: str, remote: str) -> None:
        if sop in self.here and (remote, sop) not in self.open:
            self.box.queue(sop, remote, study=sop[0])
            self.open[remote, sop] = State.WAITING

    @rule(remote=remotes)
    def lease(self, remote: str) -> None:
        self.box.lease(remote)
        for whose, state in self.open.items():
            if whose[0] == remote and state is State.WAITING:
                self.open[whose] = State.SENDING

    def numbers(self, remote: str, state: State) -> dict[int, str]:
        with self.box.reader.view() as view:
            found = OutboxView.within(view).deliveries(state, remote)
            return {each.number: each.sop_instance_uid for each in found}

    @rule(remote=remotes, well=st.booleans())
    def end(self, remote: str, well: bool) -> None:
        """All that is being sent there was delivered, or has failed."""
        self.now += 10
        for number, sop in self.numbers(remote, State.SENDING).items():
            now = self.now
            if well:
                self.box.outbox(lambda outbox, n=number, now=now: outbox.delivered(n, now))
                del self.open[remote, sop]
                if sop in self.here:
                    self.here[sop].has.add(remote)
            else:
                self.box.outbox(
                    lambda outbox, n=number, now=now: outbox.attempt_failed(n, now, "no", -1, None)
                )
                self.open[remote, sop] = State.FAILED

    @rule(remote=remotes)
    def hold(self, remote: str) -> None:
        waiting = self.numbers(remote, State.WAITING)
        self.box.outbox(lambda outbox: outbox.hold(list(waiting), self.now))
        self.open |= {(remote, sop): State.HELD for sop in waiting.values()}

    @rule(remote=remotes)
    def discard(self, remote: str) -> None:
        failed = self.numbers(remote, State.FAILED)
        self.box.outbox(lambda outbox: outbox.discard(list(failed), self.now))
        for sop in failed.values():
            del self.open[remote, sop]

    @rule()
    def forget_history(self) -> None:
        self.now += 1
        self.box.outbox(lambda outbox: outbox.prune_delivered(self.now))

    @rule(study=studies, wanted=st.booleans())
    def pin(self, study: str, wanted: bool) -> None:
        with self.box.reader.view() as view:
            found = [view.study(number) for number, _ in view.studies_of_uid(study)]
        for record in found:
            assert record is not None
            if wanted:
                pin = Pin("Ann", self.now, "")
                self.box.writer.commit(lambda batch, one=record, pin=pin: put_pin(batch, one, pin))
                self.pinned.add(study)
            else:
                self.box.writer.commit(lambda batch, one=record: drop_pin(batch, one))
                self.pinned.discard(study)

    # --- what goes ---
    @rule()
    def evict(self) -> None:
        """A whole round: all that may go goes, and nothing else."""
        self.box.intake.checkpoint()
        may_go = {study for study in STUDIES if self.may_go(study)}
        eviction = Eviction(self.box.reader, Policy(0, None, None))
        eviction.look(100)
        went = set()
        while (judged := eviction.next(self.now + 1)) is not None:
            if isinstance(judged.verdict, Reason):
                assert self.remove(judged.study.uid, judged.order) is Progress.DONE
                went.add(judged.study.uid)
        assert went == may_go
        for study in went:
            self.forget(study)

    def may_go(self, study: str) -> bool:
        sops = self.of(study)
        covered = all(each.has or each.journal == "prefetch_scp" for each in sops.values())
        waited_for = self.waiting_for(set(sops))
        return bool(sops) and covered and not waited_for and study not in self.pinned

    @rule(study=studies, forced=st.booleans())
    def remove_study(self, study: str, forced: bool) -> None:
        self.box.intake.checkpoint()
        expected = bool(self.of(study)) and (
            self.may_go(study)
            or (forced and State.SENDING not in self.waiting_for(set(self.of(study))))
        )
        progress = self.remove(study, order(study, forced=forced))
        assert (progress is Progress.DONE) == expected
        if expected:
            self.forget(study)

    def remove(self, study: str, asked: Order) -> Progress:
        self.orders += 1
        named = msgspec.structs.replace(asked, name=f"{self.orders:08}")
        while True:
            outcome = self.box.remover.step(named, self.now)
            if outcome.progress is not Progress.GOES_ON:
                return outcome.progress

    def forget(self, study: str) -> None:
        for sop in self.of(study):
            del self.here[sop]
            self.open = {whose: each for whose, each in self.open.items() if whose[1] != sop}
        self.pinned.discard(study)

    @rule(study=studies)
    def die_in_a_removal(self, study: str) -> None:
        """After its first portion; then the same order is gone on with."""
        self.box.intake.checkpoint()
        self.orders += 1
        name = f"{self.orders:08}"
        begun = self.box.remover.step(order(study, name=name), self.now)
        self.crash()
        if begun.progress in (Progress.GOES_ON, Progress.DONE):
            self.box.intake.checkpoint()
            while self.box.remover.step(order(study, name=name), self.now).progress is not (
                Progress.DONE
            ):
                pass
            self.forget(study)

    @rule()
    def crash(self) -> None:
        self.box.crash()
        self.box.index()

    @rule()
    def checkpoint(self) -> None:
        self.box.intake.checkpoint()

    # --- what always holds ---
    @invariant()
    def what_is_here_is_what_should_be(self) -> None:
        self.box.check()
        with self.box.reader.view() as view:
            found = {each.sop_instance_uid for _, each in view.instances_after(b"", 100)}
        assert found == set(self.here)
        for sop, each in self.here.items():
            assert self.box.content(sop) == each.content
        for remote in ("PACS", "ARC"):
            for state in (State.WAITING, State.SENDING, State.FAILED, State.HELD):
                expected = {
                    sop for (to, sop), each in self.open.items() if (to, each) == (remote, state)
                }
                assert set(self.numbers(remote, state).values()) == expected


TestRemovalMachine = RemovalMachine.TestCase
TestRemovalMachine.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# What runs at random have found, each a row of (rule, values).
EXAMPLES: Final[list[list[tuple[str, dict[str, Any]]]]] = [
    [  # delivered, removed, received again: nobody has what is here now
        ("receive", {"sop": "1.1", "fetched": False}),
        ("queue", {"sop": "1.1", "remote": "PACS"}),
        ("lease", {"remote": "PACS"}),
        ("end", {"remote": "PACS", "well": True}),
        ("evict", {}),
        ("receive", {"sop": "1.1", "fetched": False}),
        ("evict", {}),
        ("crash", {}),
    ],
    [  # what was delivered before it came again keeps its study
        ("receive", {"sop": "1.1", "fetched": False}),
        ("queue", {"sop": "1.1", "remote": "PACS"}),
        ("lease", {"remote": "PACS"}),
        ("end", {"remote": "PACS", "well": True}),
        ("forget_history", {}),
        ("receive", {"sop": "1.1", "fetched": False}),
        ("evict", {}),
    ],
]


@pytest.mark.parametrize("steps", EXAMPLES)
def test_what_was_found_at_random(steps: list[tuple[str, dict[str, Any]]]) -> None:
    machine = RemovalMachine()
    try:
        for name, values in steps:
            getattr(machine, name)(**values)
            machine.what_is_here_is_what_should_be()
    finally:
        machine.teardown()


def test_the_settings_keep_all_by_default() -> None:
    assert not Retention().evicts
