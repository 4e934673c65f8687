"""The private key lies nowhere in the service's processes in the form in which it was handed on.

OpenSSL keeps the key that it works with as numbers of its own; those are not found by this search,
and have to be there. What is searched for are the bytes that stood in the store.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from native import _core
from tests.material import certificates
from tests.material.waiting import free_ports
from tests.rigs.secured import SecuredGateway

pytestmark = pytest.mark.process


def test_a_secret_is_overwritten_in_place() -> None:
    secret = bytes(bytearray(b"secret" * 100))
    _core.wipe(secret)
    assert secret == bytes(600)
    for shared in (b"", b"a"):
        _core.wipe(shared)
    assert bytes([97]) == b"a"


def regions(pid: int) -> Iterator[bytes]:
    """What the process has written itself: heaps, stacks, everything that is of no file."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for first, last, rights, name in re.findall(
            r"^(\w+)-(\w+) (\S+) \S+ \S+ \d+ *(.*)$", maps, re.M
        ):
            if not rights.startswith("rw") or name.startswith(("/memfd:", "[v")):
                continue  # rings and counters hold no key
            begin = int(first, 16)
            memory.seek(begin)
            try:
                yield memory.read(int(last, 16) - begin)
            except OSError:
                continue


def private_numbers() -> list[bytes]:
    """Pieces of the key as they stand in its DER: of the exponent and of both primes."""
    key = certificates.good().key
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.private_numbers()
    pieces = []
    for number in (numbers.d, numbers.p, numbers.q):
        raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
        pieces.append(raw[len(raw) // 2 :][:24])
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    assert all(piece in der for piece in pieces)
    return pieces


def test_no_process_keeps_a_copy_of_the_key(tmp_path: Path) -> None:
    remote = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 11112, "tls": True}
    (port,) = free_ports(1)
    messages = {"enabled": True, "address": "127.0.0.1", "port": port, "tls": True}
    gateway = SecuredGateway(tmp_path / "secured", {"remotes": [remote], "hl7": messages})
    pieces = private_numbers()
    try:
        gateway.start()
        assert gateway.command("reload").returncode == 0
        assert gateway.process is not None
        processes = {**gateway.processes(), "supervisor": gateway.process.pid}
        assert {"supervisor", "secured_scp", "sender", "hl7"} <= set(processes)
        searched = 0
        for name, pid in processes.items():
            try:
                for region in regions(pid):
                    searched += len(region)
                    assert not any(piece in region for piece in pieces), name
            except PermissionError:
                pytest.skip("only root may look into a worker")
        assert searched > 10**7
    finally:
        gateway.close()
