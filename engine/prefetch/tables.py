"""The tables of prefetching as one transaction sees them: a job by its number, and the totals.

What `engine/prefetch/jobs.py` and `engine/prefetch/hit_rate.py` both stand on. Nothing here opens a
table or commits; what the tables hold is told in `engine/prefetch/records.py`.
"""

from typing import Self

from engine.index.environment import View
from engine.prefetch import records
from engine.prefetch.records import Job


class PrefetchTables(View):
    """The tables, and the index, in one transaction; a write transaction to change them."""

    @classmethod
    def within(cls, view: View) -> Self:
        """In the transaction of a view of the index, or of a batch of changes to it."""
        return cls(view._transaction, view._tables)

    def job(self, number: int) -> Job | None:
        """The job with a number, as it is stored."""
        key = records.NUMBER.pack(number)
        value = self._get("prefetch_jobs", key)
        return None if value is None else records.job_of(key, value)

    def under_way(self) -> int | None:
        """The job that the retriever works on, or worked on when it died."""
        for key, _ in self.keys_with_prefix("prefetch_due", records.NUMBER.pack(0)):
            number: int = records.DUE.unpack(key)[1]
            return number
        return None

    def _total(self, key: bytes) -> int:
        value = self._get("prefetch_totals", key)
        return 0 if value is None else records.NUMBER.unpack(value)[0]

    def _add(self, key: bytes, change: int) -> None:
        self._put("prefetch_totals", key, records.NUMBER.pack(self._total(key) + change))

    def _put(self, table: str, key: bytes, value: bytes) -> None:
        self._transaction.put(key, value, db=self._tables[table])

    def _delete(self, table: str, key: bytes) -> None:
        self._transaction.delete(key, db=self._tables[table])
