"""What was acknowledged, held against what is there: the one question of every fault test."""

import hashlib
import random
from collections.abc import Iterable, Mapping

from tests.material import wire
from tests.peers.peer import Sender
from tests.peers.tap import data_set_of_file
from tests.rigs.gateway import Gateway

ROOT_UID = "1.2.826.0.1.3680043.10.3"
# On both sides of what travels inside the journal, and a few writes of a file.
SIZES = (700, 9_000, 120_000, 140_000, 300_000, 1_300_000)


def instance(number: int, run: int = 0) -> tuple[str, bytes]:
    """Instance `number`: its UID and data set, of a size and content of its own."""
    uid = f"{ROOT_UID}.{run}.{number}"
    size = SIZES[number % len(SIZES)]
    pixels = random.Random(number).randbytes(997) * (size // 997 + 1)
    series = f"{ROOT_UID}.{run}.9.{number % 7}"
    return uid, wire.small_data_set(uid, study=f"{ROOT_UID}.8", series=series, pixels=pixels)


def digest(data_set: bytes) -> str:
    """How a data set is remembered."""
    return hashlib.sha256(data_set).hexdigest()


def of(senders: Iterable[Sender]) -> dict[str, str]:
    """All that was acknowledged to these senders."""
    return {uid: value for sender in senders for uid, value in sender.acknowledged.items()}


def missing(gateway: Gateway, acknowledged: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with each instance that is not there, bit for bit and indexed."""
    rows = gateway.find()
    wrong = {}
    for uid, expected in acknowledged.items():
        if uid not in rows:
            wrong[uid] = "not in the index"
            continue
        try:
            content = gateway.stored_file(rows[uid]).read_bytes()
        except FileNotFoundError:
            wrong[uid] = "in the index, but its file is not there"
            continue
        if digest(data_set_of_file(content)) != expected:
            wrong[uid] = f"other bytes than those acknowledged ({len(content)})"
    return wrong


def assert_kept(gateway: Gateway, acknowledged: Mapping[str, str]) -> None:
    """Every acknowledged instance is there, and the index and the files agree."""
    wrong = missing(gateway, acknowledged)
    assert not wrong, f"{len(wrong)} of {len(acknowledged)}: {dict(list(wrong.items())[:5])}"
    verified = gateway.command("verify", "--content")
    assert verified.returncode == 0, f"{verified.stdout}\n{verified.stderr}"
