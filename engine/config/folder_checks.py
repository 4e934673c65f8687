"""Where watched folders may lie: nowhere in the data, in each other, or where the system lives.

What lies in a watched folder is taken out of it and sent. `resolve` makes a path comparable: by its
text alone where nothing may be looked at, or with the links on the way followed.
"""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Final

from engine.config.checks import Finding
from engine.settings.settings import Config
from engine.settings.tls import TLS_PATHS

# Nothing in these is anybody's to send.
_SYSTEM: Final = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin"),
    *("/run/systemd", "/sys", "/usr", "/var/lib/dpkg", "/var/lib/rpm", "/var/lib/systemd"),
)
# In these a directory may be made for it, but they are many others' too.
_SHARED: Final = (
    *("/", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var"),
    *("/var/cache", "/var/lib", "/var/log", "/var/opt", "/var/run", "/var/spool", "/var/tmp"),
)
# Parts of the data that links may have put on another disk.
_PARTS: Final = (
    *("", "store", "index", "outbox", "journal", "incoming", "run"),
    *("set_aside", "repairs", "removals"),
)


def folder_findings(
    config: Config, resolve: Callable[[str], str] = os.path.normpath, base_directory: str = ""
) -> Iterator[Finding]:
    """Every watched folder that would take what is not meant to be sent. `base_directory`: where
    the configuration file lies, if there is one."""
    files = [base_directory, *(getattr(config.tls, name) for name in TLS_PATHS)]
    held = [resolve(each) for each in files if each]
    installed = resolve(sys.prefix)
    parts = [resolve(os.path.join(config.data_directory, part)) for part in _PARTS]
    system = [resolve(each) for each in _SYSTEM]
    shared = [resolve(each) for each in _SHARED]
    earlier: list[tuple[str, str]] = []  # as it is written, as it is
    for index, remote in enumerate(config.remotes):
        if not remote.outgoing_directory:
            continue
        folder = resolve(remote.outgoing_directory)
        path = f"remotes[{index}].outgoing_directory"
        if any(_overlap(folder, part) for part in parts):
            yield Finding(
                path,
                "overlaps with data_directory: what is stored there would be taken for what is to "
                "be sent; give it a place of its own",
                ("remotes", "data_directory"),
            )
        elif folder in shared or any(_overlap(folder, each) for each in system):
            yield Finding(
                path,
                "is a directory of the system's: what lies there would be taken and sent; make one "
                "for this alone",
                ("remotes",),
            )
        elif any(_is_within(each, folder) for each in held) or _overlap(folder, installed):
            yield Finding(
                path,
                "holds files of the service's own (its configuration, key stores or programs), "
                "which would be taken and sent; make one for this alone",
                ("remotes", "tls"),
            )
        for written, other in earlier:
            # The same text twice is another rule's.
            if written != remote.outgoing_directory and _overlap(folder, other):
                yield Finding(
                    path,
                    f"overlaps with {written}, the folder of another remote AE; nobody could say "
                    "whom a file is for",
                    ("remotes",),
                )
        earlier.append((remote.outgoing_directory, folder))


def _overlap(one: str, other: str) -> bool:
    """Whether one of two directories is, or lies in, the other."""
    return _is_within(one, other) or _is_within(other, one)


def _is_within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")
