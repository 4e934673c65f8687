"""What may replace what, by journal: as its AE is configured, and as it last was.

A journal outlives its AE: what was acknowledged before the AE was taken out of the configuration is
still read. It is read by the policy that held then, which the index keeps. Where nobody knows that
(the index was lost meanwhile, or is an older release's), nothing may replace: what comes is set
aside and named, and can be taken back (docs/operations.md, "What was set aside").
"""

from collections.abc import Mapping

from engine.index.writer import IndexWriter
from engine.intake.replacing import ALWAYS, NEVER


class Policies:
    """The policies of all journals there are."""

    def __init__(self, writer: IndexWriter) -> None:
        self._writer = writer
        self._configured: Mapping[str, str] | None = None
        with writer.reader().view() as view:
            self._kept = view.policies()

    def configure(self, configured: Mapping[str, str] | None) -> None:
        """From now on these hold; None: all may, whoever's journal it is. What is not kept yet is,
        before anything is decided by it."""
        fresh = {
            journal: policy
            for journal, policy in (configured or {}).items()
            if self._kept.get(journal) != policy
        }
        if fresh:
            self._writer.commit(lambda batch: batch.keep_policies(fresh))
            self._kept |= fresh
        self._configured = configured

    def of(self, journal: str) -> str:
        """What holds for this one."""
        if self._configured is None:
            return ALWAYS
        return self._configured.get(journal) or self._kept.get(journal, NEVER)
