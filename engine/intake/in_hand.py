"""Which record the intake has in hand, for whoever keeps that where it outlives the process.

An instance may be the death of the process that takes it in: its names, or a rule that looks at
them. Such a record is known by how often the process died of it, and at last set aside
(engine/intake/intake.py).
"""

from typing import Protocol


class RecordsInHand(Protocol):
    """What an intake tells, and asks."""

    def take(self, journal: str, sequence: int) -> None:
        """This record is in hand from now on."""

    def put_down(self) -> None:
        """None is."""

    def is_deadly(self, journal: str, sequence: int) -> bool:
        """Whether the process died of it so often that it is not to be tried again."""


class NobodyCounts:
    """Without a process that could die of it."""

    def take(self, journal: str, sequence: int) -> None:
        """Not noted."""

    def put_down(self) -> None:
        """Not noted."""

    def is_deadly(self, journal: str, sequence: int) -> bool:
        """Nobody knows."""
        del journal, sequence
        return False
