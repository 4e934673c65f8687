"""What a worker gives up before it looks at a peer's first byte: capabilities, files, system calls.

A worker is bound after everything it inherits is there and before its role begins, while it has one
thread. Whoever then takes it over by a peer's bytes has the descriptors that it holds and little
else. Where the kernel lacks a part, or the operator has switched it off (`confine = false`), the
log says so and the worker works all the same.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from engine.errors import OperatorError
from native import _core
from workers.frame.spec import AnySpec, ReceiverSpec


class Bounds(NamedTuple):
    """What a role may still do."""

    starts_nothing: bool  # no program, no process, no socket of its own
    files: tuple[str, ...] | None  # directories of the data that it writes; None: all files


# The sender connects to peers, reads watched folders and has images decoded by a helper; the
# retriever connects. Stats takes connections from a socket that it inherits, and reads the index,
# whose lock file every reader writes. The HL7 listener does likewise, and writes the index.
BOUNDS: Final[dict[str, Bounds]] = {
    "receiver": Bounds(True, ("incoming", "journal", "run")),
    "indexer": Bounds(True, (".",)),
    "hl7": Bounds(True, ("index", "run")),
    "stats": Bounds(True, ("index", "run")),
    "sender": Bounds(False, None),
    "retriever": Bounds(False, None),
}
# Read by the interpreter, the C library and ourselves while we run: modules that are imported
# late, locales and time zones, and how many processors there are.
_SYSTEM: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/localtime",
    "/etc/ssl/openssl.cnf",
    "/dev/null",
    "/dev/urandom",
    "/proc/self",
    "/proc/sys/vm",
    "/sys/devices/system",
)


def confine(spec: AnySpec) -> dict[str, object]:
    """Bind this process; what came of it, for the log. OperatorError: the kernel refused."""
    bounds = BOUNDS[spec.role]
    try:
        _core.drop_privileges()
        files = -1
        if bounds.files is not None:
            files = _core.restrict_files(readable(), list(_writable(spec, bounds.files)))
        calls = _core.deny_calls(bounds.starts_nothing)
    except OSError as error:
        raise OperatorError(
            f"cannot be confined: {error.strerror}; `confine = false` starts it without", spec.name
        ) from error
    names = {-1: "all", 0: "all: this kernel has no Landlock"}
    return {
        "files": names.get(files, f"its own, by Landlock {files}"),
        "calls": "filtered" if calls else "all: this kernel has no seccomp filters",
    }


def readable() -> list[str]:
    """Everything that a worker may read besides what it writes."""
    code = {sys.prefix, sys.base_prefix, sys.exec_prefix, *filter(None, sys.path)}
    return [*sorted({os.path.realpath(path) for path in code}), *_SYSTEM]


def _writable(spec: AnySpec, names: tuple[str, ...]) -> Iterator[str]:
    """The directories, and where links in them lead: data is often spread over file systems."""
    data = Path(spec.data_directory)
    if isinstance(spec, ReceiverSpec):
        yield from (spec.incoming_directory, spec.journal_directory)
    for name in names:
        directory = data / name
        yield str(directory)
        yield from _linked(directory)
        if name == ".":
            for child in sorted(data.iterdir()):
                yield from _linked(child)


def _linked(directory: Path) -> Iterator[str]:
    """Where a directory leads that is a link, and where its entries do that are."""
    if directory.is_symlink():
        yield os.path.realpath(directory)
    if directory.is_dir():
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield os.path.realpath(entry.path)
