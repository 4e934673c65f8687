"""Work with private keys that leaves none of them in freed memory.

OpenSSL overwrites its own numbers; what it, cryptography and Python make of a key on the way (its
encoding, mostly) they free as it is. So freed memory is overwritten while such work is done, which
costs nothing that counts there. What is still in use afterwards is not touched.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from native import _core


@contextmanager
def without_traces() -> Iterator[None]:
    """Around what handles a key. Of the whole process: not for what is busy with anything else."""
    _core.overwrite_freed(True)
    try:
        yield
    finally:
        _core.overwrite_freed(False)
