"""One random corruption of a data directory, and whose instances it may cost.

What it may cost are the instances whose own bytes or records it touches. The index costs nothing,
being made again.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.corruptions.material import Made
from tests.rigs import journal_records
from tests.rigs.indexer_box import element

PAGE: Final = 4096
KINDS: Final = ("bit", "block", "truncation", "missing file", "stale segment", "old pages")
LOST_SEGMENT: Final = "lost segment"  # a missing file that is one
_weights: Final = (2, 2, 1, 1, 1, 1)
_locks: Final = ("lock", "lock.mdb", "writer.lock")


class Corruption(NamedTuple):
    """What was done to which file, from which byte to which; `costs`: UIDs that may be lost."""

    kind: str
    path: str
    begin: int
    end: int
    costs: frozenset[str]

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.kind}, {self.path}, bytes {self.begin} to {self.end}"

    @property
    def is_of_index(self) -> bool:
        """Not of what was acknowledged."""
        return self.path.startswith("index/")


def corrupt(made: Made, copy: Path, chance: random.Random) -> Corruption:
    """Do one to the copy of a made directory."""
    (kind,) = chance.choices(KINDS, _weights)
    if kind == "old pages":
        return _old_pages(made, copy, chance)
    if kind == "stale segment":
        return _stale(made, copy, chance)
    path = _some_file(copy, chance)
    content = (copy / path).read_bytes()
    if kind == "missing file":
        (copy / path).unlink()
        named = LOST_SEGMENT if path.endswith(".wal") and "free-" not in path else kind
        return Corruption(named, path, 0, len(content), _costs(made, path, content, 0))
    used = len(content.rstrip(b"\0")) or len(content)
    begin = chance.randrange(min(len(content), used + PAGE) or 1)
    if kind == "truncation":
        (copy / path).write_bytes(content[:begin])
        return Corruption(kind, path, begin, len(content), _costs(made, path, content, begin))
    if kind == "bit":
        end = begin + 1
        filling = bytes([(content[begin] if content else 0) ^ 1 << chance.randrange(8)])
    else:
        size = chance.choice([16, 512, PAGE, 10 * PAGE])
        begin = begin // size * size
        end = min(begin + size, len(content))
        filling = chance.choice([bytes(end - begin), chance.randbytes(end - begin)])
    (copy / path).write_bytes(content[:begin] + filling + content[end:])
    return Corruption(kind, path, begin, end, _costs(made, path, content, begin, end))


def _some_file(copy: Path, chance: random.Random) -> str:
    """Every kind of file alike, however many there are of it, but for segments, which come most."""
    found: dict[str, list[str]] = {}
    for path in copy.rglob("*"):
        if not path.is_file() or path.name in _locks:
            continue
        inside = str(path.relative_to(copy))
        room = inside.split("/")[0]
        sort = path.suffix if room == "journal" and "free-" not in path.name else room
        found.setdefault(sort, []).append(inside)
    sorts = [*sorted(found), *[".wal"] * 4]
    return chance.choice(sorted(found[chance.choice(sorts)]))


def _old_pages(made: Made, copy: Path, chance: random.Random) -> Corruption:
    path = "index/data.mdb"
    content = bytearray((copy / path).read_bytes())
    older = chance.choice(made.older[path])
    pages = min(len(content), len(older)) // PAGE
    if chance.random() < 0.2:
        (copy / path).write_bytes(older)
        return Corruption("old pages", path, 0, len(content), frozenset())
    first = chance.randrange(pages)
    last = min(pages, first + chance.choice([1, 1, 4]))
    content[first * PAGE : last * PAGE] = older[first * PAGE : last * PAGE]
    (copy / path).write_bytes(content)
    return Corruption("old pages", path, first * PAGE, last * PAGE, frozenset())


def _stale(made: Made, copy: Path, chance: random.Random) -> Corruption:
    """A segment as it was once, or one that was gone is there again."""
    path = chance.choice(sorted(path for path in made.older if path.endswith(".wal")))
    older = chance.choice(made.older[path])
    now = (copy / path).read_bytes() if (copy / path).exists() else b""
    (copy / path).write_bytes(older)
    common = next(
        (at for at, (one, other) in enumerate(zip(now, older, strict=False)) if one != other),
        min(len(now), len(older)),
    )
    return Corruption("stale segment", path, common, len(now), _costs(made, path, now, common))


def _costs(
    made: Made, path: str, content: bytes, begin: int, end: int | None = None
) -> frozenset[str]:
    """Whose bytes or records lie there."""
    room, name, *_ = path.split("/")
    if room == "store":
        return frozenset({Path(path).name.removesuffix(".dcm").split("-")[0]})
    if room == "incoming":
        number = next(
            (
                number
                for number, record_name in _named(made.directory / "journal" / name)
                if record_name == Path(path).name
            ),
            None,
        )
        # One that has no record speaks for itself by its seal.
        uid = made.records.get((name, number)) if number is not None else None
        return frozenset({uid} if uid else _sealed_in(made, content))
    if room != "journal" or not path.endswith(".wal") or "free-" in path:
        return frozenset()
    end = len(content) if end is None else end
    touched = {
        one.sequence
        for one in journal_records.records(content)
        if one.begin < end and begin < one.end
    }
    return frozenset(uid for number in touched if (uid := made.records.get((name, number))))


def _named(journal: Path) -> Iterator[tuple[int, str]]:
    """(number, file under incoming/) of each record of a journal that has one."""
    for path in sorted(journal.glob("0*.wal")):
        image = path.read_bytes()
        for one in journal_records.records(image):
            prologue, attributes, size = one.head[8:11]
            at = one.begin + journal_records.HEAD.size + prologue + attributes
            if size:
                yield one.sequence, image[at : at + size].decode()


def _sealed_in(made: Made, content: bytes) -> list[str]:
    return [uid for uid in made.acknowledged if element(0x00080018, b"UI", uid.encode()) in content]
