"""Texts as keys of LMDB, which takes 511 bytes at most: a longer one is cut and gets a digest."""

import hashlib
from typing import Final

from engine.limits import index_key_bytes_max

_DIGEST_BYTES: Final = 16


def lmdb_key(prefix: bytes, text: str, limit: int = index_key_bytes_max) -> bytes:
    """A key of at most `limit` bytes: a longer text is cut at a character and gets a digest.

    What is found under a cut key must be compared again with the whole value.
    """
    key = prefix + text.encode("utf-8", "surrogatepass")
    if len(key) <= limit:
        return key
    digest = hashlib.blake2b(key, digest_size=_DIGEST_BYTES).digest()
    return cut_key(key, limit) + b"\xff" + digest


def cut_key(key: bytes, limit: int = index_key_bytes_max) -> bytes:
    """The part of a long key that is kept as it is: the prefix to search for."""
    if len(key) <= limit:
        return key
    kept = key[: limit - _DIGEST_BYTES - 1]
    while kept and kept[-1] & 0xC0 == 0x80:
        kept = kept[:-1]
    return kept[:-1] if kept and kept[-1] >= 0xC0 else kept
