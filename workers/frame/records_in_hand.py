"""The journal record that the indexer has in hand, and of which records it died how often.

Both stand in one page that outlives the process (`workers/frame/in_hand.py`) and are forgotten
after a power cut, when every record is tried anew. What has been the death of the indexer three
times is named deadly; only the last few such records are remembered, since they come one by one.
"""

from pathlib import Path
from typing import Final
from zlib import crc32

from engine.limits import record_deaths_max, records_blamed_max
from workers.frame.in_hand import InHand

_JOURNAL, _SEQUENCE, _FIRST = 0, 1, 2
_each: Final = 3  # places of a record that was blamed: journal, number, deaths


class RecordsOnPage:
    """engine/intake/in_hand.py's RecordsInHand. One thread's own. OSError: there is no page."""

    def __init__(self, path: Path) -> None:
        self._page = InHand(path, _FIRST + _each * records_blamed_max)
        left = self._page.left
        blamed = [left[at : at + _each] for at in range(_FIRST, len(left), _each)]
        self._deaths = {(journal, number): deaths for journal, number, deaths in blamed if deaths}
        self.blamed: tuple[int, int] | None = None  # (number of the record, its deaths) just now
        if left[_SEQUENCE]:
            record = left[_JOURNAL], left[_SEQUENCE]
            deaths = self._deaths.pop(record, 0) + 1
            self._deaths[record] = deaths
            self.blamed = record[1], deaths
        self._write_down()

    def _write_down(self) -> None:
        known = [(*record, deaths) for record, deaths in self._deaths.items()]
        for number, values in enumerate(known[-records_blamed_max:]):
            for place, value in enumerate(values, _FIRST + _each * number):
                self._page.take(place, value)

    def take(self, journal: str, sequence: int) -> None:
        """This record is in hand from now on."""
        self._page.put_down(_SEQUENCE)
        self._page.take(_JOURNAL, _number_of(journal))
        self._page.take(_SEQUENCE, sequence)

    def put_down(self) -> None:
        """None is."""
        self._page.put_down(_SEQUENCE)

    def is_deadly(self, journal: str, sequence: int) -> bool:
        """Whether the process died of it so often that it is not to be tried again."""
        deaths = self._deaths.get((_number_of(journal), sequence), 0)
        return deaths >= record_deaths_max


def _number_of(journal: str) -> int:
    return crc32(journal.encode())
