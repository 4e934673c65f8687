"""The prefetch jobs of a running service, waited for."""

from engine.prefetch.records import Job, JobState
from engine.prefetch.store import PrefetchStore
from tests.material.waiting import eventually
from tests.rigs.gateway import Gateway


def jobs_of(gateway: Gateway) -> list[Job]:
    """All jobs, the latest first."""
    store = PrefetchStore(gateway.data, writable=False)
    try:
        with store.view() as view:
            return list(view.jobs())
    finally:
        store.close()


def ended_job(gateway: Gateway, count: int = 1, wait_s: float = 30) -> Job:
    """The latest of so many jobs, once all have ended."""

    def look() -> list[Job]:
        found = jobs_of(gateway)
        ended = all(job.state >= JobState.FAILED for job in found)
        return found if len(found) == count and ended else []

    found: list[Job] = eventually(look, wait_s, f"{count} jobs have ended")
    return found[0]
