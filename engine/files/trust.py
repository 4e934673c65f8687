"""Whether somebody else may change a file or directory of ours, and the command that mends it.

Modes alone say who may write to a directory. What counts besides is who may put another in its
place: whoever may write to a directory above, unless that is sticky, or owns it.
"""

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_GROUP_WRITE: Final = stat.S_IWGRP
_OTHERS_WRITE: Final = stat.S_IWOTH


def who_else(path: str | Path, owners: tuple[int, ...], user: int | None = None) -> str:
    """Who besides its owner may change what lies there, in words; "" for nobody. `owners` are those
    it may belong to, `user` is the service's (we). What is not there, or cannot be looked at, is
    nobody's to change."""
    ours = os.geteuid() if user is None else user
    try:
        found = os.stat(path)
    except OSError:
        return ""
    quoted = shlex.quote(str(path))
    # Within a user namespace root's own files may be such as nobody knows the owner of.
    may_be_roots = 0 in owners and _is_unknown(found.st_uid)
    if owners and found.st_uid not in owners and not may_be_roots:
        return (
            f"belongs to {user_name(found.st_uid)}, and the service runs as "
            f"{user_name(ours)}. Mend it: chown -R {user_name(ours)} {quoted}, or "
            "run the service as the other"
        )
    if found.st_mode & _OTHERS_WRITE:
        return f"can be changed by every user ({_mode(found)}). Mend it: chmod go-w {quoted}"
    if found.st_mode & _GROUP_WRITE:
        group = _group_name(found.st_gid)
        return f"can be changed by the group {group} ({_mode(found)}). Mend it: chmod g-w {quoted}"
    return ""


def who_replaces(path: str | Path, user: int | None = None) -> tuple[str, str]:
    """(directory, words) of the first directory above, from the root on, in which somebody else
    than root and `user` (we) may put another in the place of this; ("", "") where nobody may."""
    ours = os.geteuid() if user is None else user
    groups = (0, os.getegid() if user is None else _group_of(user))
    for above in _above(path):
        try:
            found = os.stat(above)
        except OSError:
            continue  # not there yet, or closed to us: then we could not be led astray through it
        quoted = shlex.quote(above)
        if found.st_uid not in (0, ours) and not _is_unknown(found.st_uid):
            words = (
                f"belongs to {user_name(found.st_uid)}, who could put another directory in the "
                f"place of {path}. Mend it: chown root {quoted}, or take another place"
            )
            return above, words
        open_to_group = found.st_mode & _GROUP_WRITE and found.st_gid not in groups
        if (found.st_mode & _OTHERS_WRITE or open_to_group) and not found.st_mode & stat.S_ISVTX:
            words = (
                f"can be changed by others ({_mode(found)}), who could put another directory in "
                f"the place of {path}. Mend it: chmod go-w {quoted}"
            )
            return above, words
    return "", ""


def _above(path: str | Path) -> Iterator[str]:
    """The directories on the way to a path, as it is written and as it is."""
    seen = set()
    for way in (os.path.abspath(path), os.path.realpath(path)):
        for above in reversed(Path(way).parents):
            if above not in seen:
                seen.add(above)
                yield str(above)


def _is_unknown(user: int) -> bool:
    """Whether the number stands for everybody whom a container's user namespace does not know:
    its root directory often belongs to such a one."""
    try:
        maps = Path("/proc/self/uid_map").read_text("ascii").split()
        unknown = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except OSError:
        return False
    return user == unknown and maps != ["0", "0", str(2**32 - 1)]


def user_name(number: int) -> str:
    """As people know a user, or the number."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group_of(user: int) -> int:
    """The group that a user's processes begin with."""
    if user == os.geteuid():
        return os.getegid()
    try:
        return pwd.getpwuid(user).pw_gid
    except KeyError:
        return user


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _mode(found: os.stat_result) -> str:
    return f"mode {stat.S_IMODE(found.st_mode):04o}"
