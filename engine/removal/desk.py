"""The letterbox of removals: commands leave orders in `removals/`, the indexer carries them out.

An order stays there until it was answered, and is named by its request: so one that a crash cut is
gone on with, and one that had ended is answered by what it had removed. The desk does one portion
of one order at a time, so that whoever waits for the index meanwhile waits for some milliseconds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from engine.files import letterbox
from engine.removal.erasure import Eraser
from engine.removal.orders import Order, Outcome, Progress
from engine.removal.remover import Remover

REMOVALS_DIRECTORY: Final = "removals"

_order: Final = msgspec.json.Decoder(Order)
_outcome: Final = msgspec.json.Decoder(Outcome)


class Ended(NamedTuple):
    """An order that was answered."""

    order: Order
    outcome: Outcome


def leave_order(data_directory: Path, order: Order) -> Path:
    """Ask the indexer; the path is what await_outcome() wants. The order's name becomes the
    request's."""
    return letterbox.leave(data_directory / REMOVALS_DIRECTORY, msgspec.json.encode(order))


def await_outcome(request: Path, goes_on: Callable[[], bool]) -> Outcome:
    """What came of it. OperatorError: nobody answers, and `goes_on` says that nothing goes on."""
    return _outcome.decode(letterbox.answer_to(request, goes_on, "the removal"))


class Desk:
    """The indexer's side."""

    def __init__(
        self,
        data_directory: Path,
        remover: Remover,
        eraser: Eraser,
        checkpoint: Callable[[], object],
    ) -> None:
        self._directory = data_directory / REMOVALS_DIRECTORY
        self._remover = remover
        self._eraser = eraser
        self._checkpoint = checkpoint
        self._waiting: list[Path] = []

    @property
    def has_work(self) -> bool:
        """Whether another turn would go on with something."""
        return bool(self._waiting)

    def look(self) -> bool:
        """Whether there are orders."""
        self._waiting = letterbox.waiting(self._directory)
        return self.has_work

    def turn(self, now_ns: int) -> Ended | None:
        """One portion of the oldest order; what came of it if it ended."""
        if not self._waiting:
            return None
        request = self._waiting[0]
        try:
            order = _order.decode(request.read_bytes())
        except FileNotFoundError:
            self._waiting = []  # withdrawn
            return None
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            outcome = Outcome(Progress.REFUSED, texts=(f"no order: {error}",))
            self._end(request, outcome)
            return None
        order = msgspec.structs.replace(order, name=letterbox.name_of(request))
        carries_out = self._eraser if order.level == "patient" else self._remover
        outcome = carries_out.step(order, now_ns)
        if outcome.progress is Progress.WAITS:
            self._checkpoint()
            self._waiting = []  # until it is looked again
        elif outcome.progress is not Progress.GOES_ON:
            self._remover.settle()
            self._end(request, outcome)
            return Ended(order, outcome)
        return None

    def _end(self, request: Path, outcome: Outcome) -> None:
        letterbox.answer(request, msgspec.json.encode(outcome))
        self._waiting = self._waiting[1:]
