"""Which process sits on which cores, and why, in words that `scai status` shows.

Pure: from the cores we may use, the machine's topology and the operator's wishes to assignments.
A receiver gets a whole physical core: its event loop and its writer threads then have the siblings
to themselves. Receivers and the indexer stay on one NUMA node, since the indexer reads what
receivers wrote. Cores are shared only when there are too few: first the indexer's with the
receivers that have the fewest associations. Supervisor and stats are never pinned.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from engine.errors import OperatorError


@dataclass(frozen=True, slots=True)
class Processor:
    """A logical processor as the kernel numbers it."""

    number: int
    core: int  # logical processors with the same package and core are siblings
    package: int
    node: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A process that wants to sit: the more associations, the sooner it is served."""

    name: str
    role: str
    weight: int = 0
    wish: int | None = None  # the operator's choice


@dataclass(frozen=True, slots=True)
class Assignment:
    name: str
    cores: tuple[int, ...]  # empty: not pinned
    reason: str


def place(
    allowed: Collection[int], processors: Iterable[Processor], seats: Sequence[Seat]
) -> list[Assignment]:
    """One assignment for each seat, in the given order. OperatorError for an impossible wish."""
    usable = [processor for processor in processors if processor.number in allowed]
    known = {processor.number for processor in usable}
    # A kernel that tells nothing about a processor still lets us run on it.
    usable += [Processor(number, number, 0, 0) for number in sorted(set(allowed) - known)]
    placed: dict[str, Assignment] = {}
    for seat in seats:
        if seat.wish is not None:
            placed[seat.name] = _as_wished(seat, allowed)
        elif seat.role not in ("receiver", "indexer"):
            why = "it only watches" if seat.role == "stats" else "it runs where others leave room"
            placed[seat.name] = Assignment(seat.name, (), f"not pinned: {why}")
    waiting = [seat for seat in seats if seat.name not in placed]
    if len(usable) == 1:
        only = usable[0].number
        for seat in waiting:
            text = f"not pinned: processor {only} is the only one"
            placed[seat.name] = Assignment(seat.name, (), text)
    elif waiting:
        taken = [assignment for assignment in placed.values() if assignment.cores]
        placed |= _share_out(usable, waiting, taken)
    return [placed[seat.name] for seat in seats]


def _as_wished(seat: Seat, allowed: Collection[int]) -> Assignment:
    assert seat.wish is not None
    if seat.wish not in allowed:
        raise OperatorError(
            f"core {seat.wish} is none this service may use; it may use "
            f'{as_ranges(allowed)}. Correct `core`, or set it to "auto"',
            seat.name,
        )
    return Assignment(seat.name, (seat.wish,), "as the configuration says")


def _share_out(
    usable: list[Processor], waiting: list[Seat], wished: list[Assignment]
) -> dict[str, Assignment]:
    """Whole physical cores of one node, the busiest receiver first, the indexer after them."""
    by_node: dict[int, dict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for processor in usable:
        by_node[processor.node][processor.package, processor.core].append(processor.number)
    node = min(by_node, key=lambda number: (-len(by_node[number]), number))
    cores = sorted(tuple(sorted(siblings)) for siblings in by_node[node].values())
    taken = {number for assignment in wished for number in assignment.cores}
    free = [core for core in cores if not taken & set(core)] or cores
    where = f" of NUMA node {node}" if len(by_node) > 1 else ""
    spare = ""
    # The first core is where interrupts and the operating system's own work tend to go.
    if len(free) > len(waiting) and len(free) >= 4:
        free, spare = free[1:], f"; processor {cores[0][0]} is left to the system"
    order = sorted(waiting, key=lambda seat: (seat.role == "indexer", -seat.weight, seat.name))
    placed = {}
    if len(free) >= len(order):
        for seat, core in zip(order, free, strict=False):
            text = _alone_or_with(core, wished, f"a physical core{where} of its own{spare}")
            placed[seat.name] = Assignment(seat.name, core, text)
        return placed
    # The last core is the one that is shared, by the indexer and the least busy.
    alone = len(free) - 1
    for position, seat in enumerate(order):
        if position < alone:
            core = free[position]
            own = f"a physical core{where} of its own: the busiest come first"
            text = _alone_or_with(core, wished, own)
        else:
            core = free[alone]
            names = [other.name for other in order[alone:] if other is not seat]
            others = ", ".join([*names, *_sitting(core, wished)])
            text = (
                f"shared with {others}: {len(order)} processes, {len(free)} physical cores{where}"
            )
        placed[seat.name] = Assignment(seat.name, core, text)
    return placed


def _alone_or_with(core: tuple[int, ...], wished: list[Assignment], alone: str) -> str:
    """What is said of a core: others may sit there because the configuration wants it so."""
    others = _sitting(core, wished)
    if not others:
        return alone
    return f"shared with {', '.join(others)}, which the configuration puts there: no core is left"


def _sitting(core: tuple[int, ...], wished: list[Assignment]) -> list[str]:
    """Who sits on a core by the operator's wish."""
    return [one.name for one in wished if set(one.cores) & set(core)]


def as_ranges(numbers: Collection[int]) -> str:
    """0-3,8 as the kernel writes it; "all" when there is nothing to say."""
    ordered = sorted(numbers)
    pieces: list[str] = []
    start = 0
    for position in range(1, len(ordered) + 1):
        if position == len(ordered) or ordered[position] != ordered[position - 1] + 1:
            first, last = ordered[start], ordered[position - 1]
            pieces.append(str(first) if first == last else f"{first}-{last}")
            start = position
    return ",".join(pieces) or "all"
