"""An indexer's box with a queue, and what is removed from it."""

from collections.abc import Callable
from typing import Final, TypeVar

from engine.dictionary.patient_mark import patient_mark
from engine.outbox.outbox import Outbox
from engine.outbox.records import NewDelivery
from engine.prefetch.jobs import PrefetchJobs, Trigger
from engine.prefetch.records import Ask, JobState, StudyProgress
from engine.removal.orders import Level, Order, Outcome, Progress
from engine.removal.remover import Remover
from tests.rigs.indexer_box import Box
from tests.rigs.outbox_tables import check_tables

T = TypeVar("T")
NOW: Final = 1_000_000
NOBODY: Final = patient_mark("", "")  # whose the box's instances are that name no patient


def order(
    uid: str, level: Level = "study", name: str = "1", patient: str = NOBODY, **more: bool
) -> Order:
    return Order(name, level, uid, patient, "operator", "no longer needed", **more)


class RemovalBox(Box):
    """Instances that are received, sent and removed."""

    def open(self) -> None:
        super().open()
        self.remover = Remover(self.writer, self.intake.tree, self.intake.is_settled)

    def queue(self, sop: str, destination: str = "PACS", study: str = "1.2") -> int:
        """A rule's delivery; its number."""
        new = NewDelivery(destination, sop, "1.2.840", study, "", "1.2.1", 1, "rule", "", NOBODY)
        return self.writer.commit(lambda batch: Outbox.within(batch).enqueue(new, NOW))

    def lease(self, destination: str = "PACS") -> list[int]:
        leased = self.outbox(lambda outbox: outbox.lease(destination, 100, NOW))
        return [delivery.number for delivery in leased]

    def deliver(self, *sops: str, destination: str = "PACS", study: str = "1.2") -> None:
        for sop in sops:
            self.queue(sop, destination, study)
        for number in self.lease(destination):
            self.outbox(lambda outbox, number=number: outbox.delivered(number, NOW))

    def outbox(self, work: Callable[[Outbox], T]) -> T:
        return self.writer.commit(lambda batch: work(Outbox.within(batch)))

    def jobs(self, work: Callable[[PrefetchJobs], T]) -> T:
        return self.writer.commit(lambda batch: work(PrefetchJobs.within(batch)))

    def fetched(self, study: str) -> None:
        """A prefetch has brought it."""
        ask = Ask("archive", "study", "", "", "", (), (), 5, f"{study}.7")
        trigger = Trigger("priors", ask, f"{study}.7.1", "CT", 1, 1, 1)
        self.jobs(lambda jobs: jobs.trigger(trigger, 0))
        job = self.jobs(lambda jobs: jobs.begin(NOW))
        assert job is not None
        job.progress.studies.append(StudyProgress(study, "", 1, 0, moved=1))
        self.jobs(lambda jobs: jobs.end(job, JobState.DONE, NOW))

    def remove(self, asked: Order) -> Outcome:
        """To its end, or until it is refused."""
        self.intake.checkpoint()
        while True:
            outcome = self.remover.step(asked, NOW)
            if outcome.progress is not Progress.GOES_ON:
                return outcome

    def check(self) -> None:
        """Index, files and queue agree, each in itself and with the others."""
        super().check()
        with self.reader.view() as view:
            check_tables(Outbox.within(view))
