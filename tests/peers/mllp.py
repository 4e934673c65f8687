"""A foreign sender of HL7 messages: python-hl7's client, and a raw socket for all it never does."""

import socket
import ssl
from types import TracebackType

import hl7
from hl7.client import MLLPClient

Address = tuple[str, int]


class Mllp:
    """One connection to a listener."""

    def __init__(self, address: Address, context: ssl.SSLContext | None = None) -> None:
        plain = socket.create_connection(address, timeout=20)
        self.socket = context.wrap_socket(plain, server_hostname="x") if context else plain
        self._held = b""

    def send(self, *messages: bytes) -> None:
        """As blocks, in one write."""
        self.socket.sendall(b"".join(b"\x0b" + message + b"\x1c\r" for message in messages))

    def answer(self) -> hl7.Message:
        """The next answer, whole."""
        while b"\x1c\r" not in self._held:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(f"the listener hung up after {self._held!r}")
            self._held += more
        block, _, self._held = self._held.partition(b"\x1c\r")
        return hl7.parse(block.lstrip(b"\x0b"), encoding="utf-8")

    def ask(self, message: bytes) -> str:
        """What MSA-1 says of a message."""
        self.send(message)
        return code_of(self.answer())

    def closed(self) -> bool:
        """Whether the listener has hung up."""
        try:
            return self.socket.recv(65536) == b""
        except ConnectionError:
            return True

    def __enter__(self) -> "Mllp":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.socket.close()


def code_of(answer: hl7.Message) -> str:
    """MSA-1."""
    return str(answer.segment("MSA")[1])


def asked_by_library(address: Address, message: bytes) -> str:
    """MSA-1, asked by python-hl7's own client."""
    with MLLPClient(*address) as client:
        block = client.send_message(message)
    return code_of(hl7.parse(block.strip(b"\x0b\x1c\r").decode() + "\r"))
