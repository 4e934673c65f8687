"""Whose an instance is, in few characters: the mark of a patient, made of the identifier received.

A patient is known by Patient ID and its issuer together. The mark stands where the whole of them
would be too long or does not belong: in a delivery, and in the name of a file whose own name
another patient's file has already. It is a digest, so nobody reads the identifier in it.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from engine.dictionary import matching
from engine.dictionary.attributes import ISSUER_OF_PATIENT_ID, PATIENT_ID

_DIGEST_BYTES: Final = 12
MARK_CHARACTERS: Final = 2 * _DIGEST_BYTES


def patient_identity(patient_id: str, issuer: str) -> str:
    """The two as they are compared: padding is no part of them."""
    return f"{matching.pid(patient_id)}\0{matching.plain(issuer)}"


@lru_cache(maxsize=1024)
def patient_mark(patient_id: str, issuer: str) -> str:
    """The mark of a patient; nobody's (both empty) has one as well."""
    identity = patient_identity(patient_id, issuer).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(identity, digest_size=_DIGEST_BYTES).hexdigest()


def mark_of(received: Mapping[int, str]) -> str:
    """The mark by attributes as received: {tag: text}."""
    return patient_mark(received.get(PATIENT_ID, ""), received.get(ISSUER_OF_PATIENT_ID, ""))
