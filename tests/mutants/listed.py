"""The lists of faults beside this file, one for each room: `<room>.toml`.

[[fault]]
name = "what is wrong then, in a few words"
file = "engine/outbox/outbox.py"
before = '''text that stands in the file exactly once'''
after = '''what stands there instead'''
tests = ["tests/engine/outbox/test_outbox.py"]
quick = true     # its tests take a second or two: one of those that the gate samples
"""

import tomllib
from pathlib import Path
from typing import Final

import msgspec

LISTS: Final = Path(__file__).resolve().parent


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault, where it is planted, and the tests that claim to notice it."""

    room: str
    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    quick: bool = False

    @property
    def is_native(self) -> bool:
        """Whether the native module has to be built with it."""
        return self.file.startswith("native/")


def listed(directory: Path = LISTS) -> list[Fault]:
    """All faults, room by room. A list that cannot be read is an error."""
    found: list[Fault] = []
    for path in sorted(directory.glob("*.toml")):
        rows = tomllib.loads(path.read_text())["fault"]
        found += (msgspec.convert({"room": path.stem, **row}, Fault) for row in rows)
    return found
