"""`scai echo` from its command line to its exit code, against good, bad and absent peers."""

import json
import shutil
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from engine.errors import OperatorError
from tests.material import certificates, wire
from tests.material.waiting import free_ports, within
from tests.peers.orthanc import ORTHANC, Orthanc
from tests.peers.peer_scripts import Scp, aborting, rejecting, silent
from tests.peers.scripted_peer import Link, ScriptedPeer, accept_only
from tests.rigs.associations import run_storescp
from tests.rigs.gateway import Gateway, toml
from tools.commands import echo as echo_command
from tools.face.terminal import Exit


@pytest.fixture
def echo(tmp_path: Path) -> Callable[..., Result]:
    """Run the command with remote AEs given as name -> port, or -> settings."""

    def run(
        *arguments: str,
        remotes: dict[str, int | dict[str, Any]] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Result:
        names = ("application", "connect", "response", "release")
        seconds = {f"{name}_timeout_s": 1 for name in names}
        text = toml({"data_directory": "data", **seconds} | (settings or {}))
        for name, given in (remotes or {}).items():
            more = given if isinstance(given, dict) else {"port": given}
            fields = {"name": name, "ae_title": "PACS", "host": "127.0.0.1"} | more
            text += "[[remotes]]\n" + toml(fields)
        path = tmp_path / "scai.toml"
        path.write_text(text)
        return CliRunner().invoke(
            echo_command.command, ["-c", str(path), *arguments], standalone_mode=False
        )

    return run


def rows(result: Result) -> dict[str, dict[str, Any]]:
    assert result.exception is None, result.exception
    found = [json.loads(line) for line in result.stdout.splitlines()]
    return {row["name"]: row for row in found}


def test_success_as_a_table(echo: Callable[..., Result]) -> None:
    with ScriptedPeer(Scp()) as peer:
        result = echo("archive", remotes={"archive": peer.port, "other": 1})
        assert peer.links[0].titles == ("PACS", "SCP_AE")
    assert result.return_value == Exit.OK
    (_, line) = result.stdout.splitlines()
    assert "archive" in line
    assert f"127.0.0.1:{peer.port}" in line
    assert "0000 success" in line
    assert " ms" in line
    assert "Verification, Implicit VR Little Endian" in line
    assert "other" not in result.stdout


def test_every_kind_of_failure_is_told_apart(echo: Callable[..., Result]) -> None:
    (deaf,) = free_ports(1)
    with (
        ScriptedPeer(Scp()) as good,
        ScriptedPeer(Scp(statuses=[0x0122])) as status,
        ScriptedPeer(rejecting(1, 1, 7)) as rejected,
        ScriptedPeer(aborting(2, 1)) as aborted,
        ScriptedPeer(silent) as quiet,
        ScriptedPeer(Scp(decide=accept_only(wire.EXPLICIT))) as narrow,
        ScriptedPeer(lambda link: link.send(b"SSH-2.0-OpenSSH_9.2\r\n")) as stranger,
    ):
        remotes = {
            "good": good.port,
            "status": status.port,
            "rejected": rejected.port,
            "aborted": aborted.port,
            "quiet": quiet.port,
            "narrow": narrow.port,
            "stranger": stranger.port,
            "deaf": deaf,
            "nameless": {"host": "no.such.host.invalid", "port": 104},
        }
        result = echo("--all", "--json", remotes=remotes)
    found = rows(result)
    assert list(found) == list(remotes), "in the order of the configuration"
    assert {name: row["outcome"] for name, row in found.items()} == {
        "good": "success",
        "status": "status",
        "rejected": "rejected",
        "aborted": "aborted",
        "quiet": "timeout",
        "narrow": "no_context",
        "stranger": "protocol",
        "deaf": "refused",
        "nameless": "name",
    }
    assert [name for name, row in found.items() if row["succeeded"]] == ["good"]
    assert found["status"]["status"] == 0x0122
    assert found["status"]["text"] == "0122 SOP class not supported"
    assert "called AE title not recognized (1, 1, 7)" in found["rejected"]["text"]
    assert result.return_value == Exit.NEGATIVE


def test_one_attempt_and_one_association_at_a_time(echo: Callable[..., Result]) -> None:
    with ScriptedPeer(Scp(slow_s=0.1)) as peer, ScriptedPeer(rejecting(2, 3, 1)) as busy:
        remotes: dict[str, int] = {f"archive {number}": peer.port for number in range(5)}
        result = echo("--all", "--json", remotes=remotes | {"busy": busy.port})
        assert (peer.associations, peer.open_most) == (5, 1)
        assert len(busy.links) == 1, "a transient rejection is not tried again either"
    assert sum(row["succeeded"] for row in rows(result).values()) == 5


def test_dead_hosts_wait_side_by_side(
    echo: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connect that is not answered takes the whole time-out, once for all of them."""
    from workers.scu import echo as subject

    def connect(peer: object, timeout_s: float) -> object:
        time.sleep(timeout_s)
        raise subject.ScuFailure(subject_kind, "no answer to the connect")

    from engine.upper_layer.failure import FailureKind

    subject_kind = FailureKind.TIMEOUT
    monkeypatch.setattr(subject, "connect", connect)
    begun = time.monotonic()
    result = echo("--all", "--json", remotes={f"dead {number}": 104 for number in range(10)})
    assert time.monotonic() - begun < within(4)
    assert len(rows(result)) == 10


def test_a_connection_that_waited_for_its_turn_is_made_anew(echo: Callable[..., Result]) -> None:
    """A silent AE ahead of it must not cost a good one its association."""
    closed: list[bool] = []

    def impatient(link: Link) -> None:
        """Gives up on a connection that says nothing for half a second."""
        link.socket.settimeout(0.5)
        try:
            Scp()(link)
        except TimeoutError:
            closed.append(True)

    with ScriptedPeer(silent) as quiet, ScriptedPeer(impatient) as good:
        remotes = {"quiet": quiet.port, "good": good.port}
        found = rows(echo("--all", "--json", "--timeout", "2", remotes=remotes))
    assert found["quiet"]["outcome"] == "timeout"
    assert found["good"]["outcome"] == "success"


def test_what_a_peer_says_cannot_steer_the_terminal(echo: Callable[..., Result]) -> None:
    def script(link: Link) -> None:
        link.request = link.receive()
        link.send(link.acceptance(lambda *_: (0, "1.2\x1b[31m\u202e".encode().decode("latin-1"))))
        link.receive()

    for option in ((), ("--json",)):
        with ScriptedPeer(script) as peer:
            result = echo("archive", *option, remotes={"archive": peer.port})
        assert result.return_value == Exit.NEGATIVE
        assert "not proposed" in result.stdout
        assert "\x1b" not in result.stdout
        assert "\x9b" not in result.stdout


def test_a_release_that_fails_takes_nothing_back(echo: Callable[..., Result]) -> None:
    with ScriptedPeer(Scp(release_fault="close")) as peer:
        result = echo("PACS@127.0.0.1:" + str(peer.port))
    assert result.return_value == Exit.OK
    assert "0000 success; but then: the peer closed the connection" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name a remote AE"),
        (("--all",), "has no remote AE"),
        (("--all", "archive"), "exclude each other"),
        (("archve",), "did you mean archive?"),
        (("PACS@host",), "needs a port"),
        (("PACS@host:0",), "needs a port"),
        (("PACS@host:99999",), "needs a port"),
        (("@host:104",), "must not be empty"),
        (("A23456789012345678@host:104",), "at most 16"),
        (("PACS@ho st:104",), "host name"),
    ],
)
def test_a_wrong_command_line(
    echo: Callable[..., Result], arguments: tuple[str, ...], words: str
) -> None:
    remotes = {} if arguments == ("--all",) else {"archive": 104}
    result = echo(*arguments, remotes=remotes)
    assert isinstance(result.exception, OperatorError)
    assert words in str(result.exception)


# --- TLS -----------------------------------------------------------------------------------------


def server_context(
    tmp_path: Path,
    identity: certificates.Identity,
    trusted: certificates.Identity | None = None,
) -> ssl.SSLContext:
    """A peer that wants to see a certificate which it trusts, by default ours."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key, chain = identity.pem_files(tmp_path, "server")
    context.load_cert_chain(chain, key)
    context.verify_mode = ssl.CERT_REQUIRED
    anchor = (trusted or certificates.root()).certificate
    context.load_verify_locations(cadata=certificates.pem(anchor).decode())
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_over_tls(echo: Callable[..., Result], tmp_path: Path, version: ssl.TLSVersion) -> None:
    context = server_context(tmp_path, certificates.peer())
    context.maximum_version = version
    settings = {"tls": certificates.tls_settings(tmp_path / "tls")}
    with ScriptedPeer(Scp(), tls=context) as peer:
        remotes = {"secure": {"port": peer.port, "tls": True}, "plain": peer.port}
        found = rows(echo("--all", "--json", remotes=remotes, settings=settings))
        ad_hoc = f"PACS@localhost:{peer.port}"
        assert echo("--tls", ad_hoc, settings=settings).return_value == Exit.OK
    assert found["secure"]["outcome"] == "success"
    assert found["secure"]["tls"] is True
    assert found["plain"]["outcome"] in ("protocol", "lost")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("expired", "we do not trust the peer's certificate: certificate has expired"),
        ("foreign", "we do not trust the peer's certificate"),
        ("plain", "what answers there does not speak TLS"),
        ("tls 1.1", "refuses"),
        ("trusts others", "the peer does not trust our certificate"),
        ("trusts a namesake", "the peer finds our certificate forged"),
    ],
)
def test_tls_failures_in_words(
    echo: Callable[..., Result], tmp_path: Path, kind: str, words: str
) -> None:
    settings = {"tls": certificates.tls_settings(tmp_path / "tls")}
    context: ssl.SSLContext | None = server_context(tmp_path, certificates.peer())
    if kind in ("expired", "foreign"):
        context = server_context(tmp_path, certificates.bad(kind))
    elif kind == "trusts others":
        context = server_context(tmp_path, certificates.peer(), certificates.peer())
    elif kind == "trusts a namesake":
        context = server_context(tmp_path, certificates.peer(), certificates.foreign_root())
    elif kind == "plain":
        context = None
    elif kind == "tls 1.1":
        assert context is not None
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    plain_answer = wire.pdu(wire.ABORT, bytes((0, 0, 2, 1)))
    script = Scp() if context else (lambda link: link.send(plain_answer))
    with ScriptedPeer(script, tls=context) as peer:
        remotes = {"secure": {"port": peer.port, "tls": True}}
        (row,) = rows(echo("secure", "--json", remotes=remotes, settings=settings)).values()
    assert row["outcome"] == "tls"
    assert words in row["text"]


def test_a_handshake_that_is_not_answered(echo: Callable[..., Result], tmp_path: Path) -> None:
    settings = {"tls": certificates.tls_settings(tmp_path / "tls")}
    with ScriptedPeer(silent) as peer:
        remotes = {"secure": {"port": peer.port, "tls": True}}
        (row,) = rows(echo("secure", "--json", remotes=remotes, settings=settings)).values()
    assert (row["outcome"], row["text"]) == (
        "timeout",
        "the TLS handshake was not complete within 1 s",
    )


# --- foreign peers -------------------------------------------------------------------------------


def test_storescp(echo: Callable[..., Result], tmp_path: Path) -> None:
    process, port = run_storescp(tmp_path)
    try:
        (row,) = rows(echo("--json", f"ANY-SCP@localhost:{port}")).values()
    finally:
        process.kill()
        process.wait()
    assert row["outcome"] == "success"
    assert "OFFIS_DCMTK" in row["implementation"]


@pytest.mark.skipif(not shutil.which(ORTHANC), reason="Orthanc is not installed")
def test_orthanc(echo: Callable[..., Result], tmp_path: Path) -> None:
    directory = tmp_path / "orthanc"
    directory.mkdir()
    orthanc = Orthanc(directory, 104)
    try:
        port = json.loads((directory / "orthanc.json").read_text())["DicomPort"]
        (row,) = rows(echo("--json", f"ORTHANC@127.0.0.1:{port}")).values()
    finally:
        orthanc.close()
    assert (row["outcome"], row["status"]) == ("success", 0)


def test_pynetdicom_with_a_status(echo: Callable[..., Result]) -> None:
    entity = AE("PYNET")
    entity.add_supported_context(Verification)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: 0x0210)]
    )
    try:
        result = echo(f"PYNET@127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
    assert result.return_value == Exit.NEGATIVE
    assert "0210 duplicate invocation" in result.stdout


@pytest.mark.process
def test_our_own_service(
    echo: Callable[..., Result], start_gateway: Callable[..., Gateway]
) -> None:
    gateway = start_gateway()
    host, port = gateway.address
    (row,) = rows(echo("--json", f"SCP_AE@{host}:{port}")).values()
    assert (row["outcome"], row["implementation"]) == (
        "success",
        "1.2.392.200036.9116.7.39 AP-1.0",
    )
