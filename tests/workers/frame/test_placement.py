"""Placement on machines of every size, from their topology alone."""

import os

import pytest

from engine.errors import OperatorError
from workers.frame.placement import Assignment, Processor, Seat, as_ranges, place
from workers.supervision.machine import read_topology

SEATS = [
    Seat("storage_scp", "receiver", 5),
    Seat("prefetch_scp", "receiver", 1),
    Seat("indexer", "indexer"),
    Seat("stats", "stats"),
]


def machine(nodes: int, cores: int, threads: int) -> list[Processor]:
    """Numbered as Linux does: all first siblings, then all second ones."""
    return [
        Processor(thread * nodes * cores + node * cores + core, core, node, node)
        for thread in range(threads)
        for node in range(nodes)
        for core in range(cores)
    ]


def by_name(processors: list[Processor], seats: list[Seat] = SEATS) -> dict[str, Assignment]:
    allowed = [processor.number for processor in processors]
    return {assignment.name: assignment for assignment in place(allowed, processors, seats)}


def test_one_core_pins_nobody() -> None:
    placed = by_name(machine(1, 1, 1))
    assert all(assignment.cores == () for assignment in placed.values())
    assert "only one" in placed["storage_scp"].reason


def test_two_cores_give_the_busiest_one_of_its_own() -> None:
    placed = by_name(machine(1, 2, 1))
    assert placed["storage_scp"].cores == (0,)
    assert placed["prefetch_scp"].cores == placed["indexer"].cores == (1,)
    assert "shared with indexer" in placed["prefetch_scp"].reason
    assert placed["stats"].cores == ()


def test_four_cores_leave_the_first_to_the_system() -> None:
    placed = by_name(machine(1, 4, 1))
    cores = [placed[name].cores for name in ("storage_scp", "prefetch_scp", "indexer")]
    assert cores == [(1,), (2,), (3,)]
    assert "left to the system" in placed["indexer"].reason


def test_sixty_four_processors_use_whole_cores_of_one_node() -> None:
    processors = machine(2, 16, 2)
    placed = by_name(processors)
    node_of = {processor.number: processor.node for processor in processors}
    used = [number for assignment in placed.values() for number in assignment.cores]
    assert len(used) == len(set(used)) == 6
    assert {node_of[number] for number in used} == {0}
    assert placed["storage_scp"].cores == (1, 33), "a core with its sibling"


def test_the_larger_part_of_a_node_is_taken_when_few_are_allowed() -> None:
    processors = machine(2, 16, 1)
    allowed = [0, 16, 17, 18, 19, 20]
    placed = {one.name: one for one in place(allowed, processors, SEATS)}
    assert placed["storage_scp"].cores == (17,)
    assert all(set(one.cores) <= set(allowed) for one in placed.values())


def test_a_wish_is_granted_and_kept_clear_of() -> None:
    seats = [Seat("storage_scp", "receiver", 5, wish=2), *SEATS[1:]]
    placed = by_name(machine(1, 4, 1), seats)
    assert placed["storage_scp"].cores == (2,)
    others = placed["prefetch_scp"].cores + placed["indexer"].cores
    assert 2 not in others


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("cores", [2, 3, 4])
@pytest.mark.parametrize("wishes", [(0, 1), (0, 0), (1, None), (0, 1, 0)])
def test_nobody_is_told_of_a_core_of_its_own_that_another_sits_on(
    cores: int, wishes: tuple[int | None, ...], threads: int
) -> None:
    """Two AEs wished onto the only two cores leave none for anybody else; with two processors a
    core, one of a core is enough to take it."""
    seats = [Seat(f"r{at}", "receiver", 5, wish=wish) for at, wish in enumerate(wishes)]
    seats += [Seat("prefetch_scp", "receiver", 1), Seat("indexer", "indexer")]
    placed = by_name(machine(1, cores, threads), seats)
    if cores == 2 and len({wish for wish in wishes if wish is not None}) == 2:
        assert not any("of its own" in one.reason for one in placed.values())
    for one in placed.values():
        beside = {
            other.name
            for other in placed.values()
            if other is not one and set(other.cores) & set(one.cores)
        }
        if "of its own" in one.reason:
            assert not beside, one
        elif "shared with" in one.reason:
            assert all(name in one.reason for name in beside), one


def test_an_impossible_wish_is_refused_in_words() -> None:
    with pytest.raises(OperatorError, match=r"core 9 .* it may use 0-3"):
        by_name(machine(1, 4, 1), [Seat("storage_scp", "receiver", 5, wish=9)])


def test_without_topology_every_processor_is_a_core() -> None:
    placed = {one.name: one for one in place([3, 5, 7], [], SEATS)}
    assert [placed[name].cores for name in ("storage_scp", "prefetch_scp", "indexer")] == [
        (3,),
        (5,),
        (7,),
    ]


@pytest.mark.parametrize("receivers", range(1, 9))
@pytest.mark.parametrize("cores", [1, 2, 3, 4, 8])
def test_everybody_has_a_place_and_a_reason(receivers: int, cores: int) -> None:
    seats = [Seat(f"r{number}", "receiver", 5) for number in range(receivers)]
    seats += [Seat("indexer", "indexer")]
    placed = by_name(machine(1, cores, 1), seats)
    assert list(placed) == [seat.name for seat in seats]
    assert all(one.reason for one in placed.values())
    if cores > 1:
        assert all(one.cores for one in placed.values())


def test_this_machine_can_be_placed_on() -> None:
    allowed = os.sched_getaffinity(0)
    for assignment in place(allowed, read_topology(), SEATS):
        assert set(assignment.cores) <= allowed


def test_ranges() -> None:
    assert as_ranges([]) == "all"
    assert as_ranges({0, 1, 2, 3, 8}) == "0-3,8"
    assert as_ranges((1, 33)) == "1,33"
