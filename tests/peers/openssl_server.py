"""`openssl s_server` as the other end: offers what it is told, answers each line reversed."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.material import certificates
from tests.material.certificates import Identity

# Without it the tool would refuse by itself what our side must refuse.
ANYTHING = "@SECLEVEL=0"


@contextmanager
def openssl_server(directory: Path, identity: Identity, *options: str) -> Iterator[int]:
    """The port of a server with this certificate; it ends with the block."""
    key, chain = identity.pem_files(directory, "server")
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-rev", "-key", str(key)]
    command += ["-cert", str(chain), "-cert_chain", str(chain), *options]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        try:
            assert server.stdout is not None
            said = b""
            for line in server.stdout:
                said += line
                if line.startswith(b"ACCEPT"):
                    break
            else:
                raise AssertionError(said.decode())
            yield int(line.rpartition(b":")[2])
        finally:
            server.kill()


def root_file(directory: Path) -> Path:
    """The authority's certificate as a PEM file."""
    path = directory / "root.pem"
    path.write_bytes(certificates.pem(certificates.root().certificate))
    return path


def negotiated(context: ssl.SSLContext, port: int) -> tuple[str, str] | None:
    """(version, suite) of a connection that carried bytes both ways; None: there was none. The
    bytes decide: under TLS 1.3 a client has finished before the server judges its certificate."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain) as connection:
                connection.sendall(b"ABC\n")
                answer = b""
                while not answer.endswith(b"\n"):
                    piece = connection.recv(100)
                    if not piece:
                        return None
                    answer += piece
                suite = connection.cipher()
                version = connection.version()
        except (ssl.SSLError, ConnectionError):
            return None
    assert answer == b"CBA\n"
    assert suite is not None
    assert version is not None
    return version, suite[0]
