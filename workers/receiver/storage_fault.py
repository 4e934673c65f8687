"""What a peer is told of an instance that could not be stored: status and Error Comment.

What only lacks room, or time, is "out of resources", with the status that the operator chose. All
else that is ours or the disk's is 0110 (processing failure). See
`docs/decisions/0025-out-of-resources-is-a700.md`.
"""

import errno
import os
from typing import Final

from engine.errors import LocalError

# What the peer's operator reads, for the errors of a disk.
_COMMENTS: Final = {
    errno.ENOSPC: "Storage is full",
    errno.EDQUOT: "Storage quota is used up",
    errno.EACCES: "Storage directory is not writable",
    errno.EPERM: "Storage directory is not writable",
    errno.EROFS: "Storage is mounted read-only",
    errno.EIO: "Storage reports an input/output error",
    errno.ENODATA: "The data set is empty",
    errno.EAGAIN: "The index is too far behind, try again",
}
# The same instance is taken later, when somebody has made room or the rest has caught up.
_LACKING: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
)


def storage_fault(code: int, out_of_resources: int) -> LocalError:
    """The answer to an instance that met an error of the system.

    `out_of_resources`: the status for a lack of room, such as 0xA700."""
    comment = _COMMENTS.get(code, f"Storage failed: {os.strerror(code)}")
    return LocalError(comment, out_of_resources) if code in _LACKING else LocalError(comment)


def low_disk(out_of_resources: int) -> LocalError:
    """The answer to an instance that comes when the disk's reserve is reached."""
    return LocalError("Storage is nearly full, its reserve is reached", out_of_resources)


def standing_fault(what: str, code: int, out_of_resources: int) -> LocalError:
    """The answer while a part of ours cannot go on. `what`: "The index cannot go on"."""
    text = f"{what}: {os.strerror(code)}"
    return LocalError(text, out_of_resources) if code in _LACKING else LocalError(text)
