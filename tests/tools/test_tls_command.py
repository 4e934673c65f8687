"""`scai tls` as people use it: the demonstration is run as its own instructions say."""

import json
import os
import shlex
import stat
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from engine.config.loading import load_config
from engine.tls import client as tls
from engine.tls.material import material_of
from tests.material import certificates
from tests.material.waiting import free_ports
from tests.rigs.gateway import COMMAND, Gateway, toml
from tools.cli import run_command_line, scai

_dcmtk = pytest.mark.skipif(not Path("/usr/bin/echoscu").exists(), reason="DCMTK is not installed")


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(scai, list(arguments))
    assert result.exit_code == 0, result.output
    return result


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of something that the operator must mend."""
    assert run_command_line(scai, arguments, "scai") == 2
    return capfd.readouterr().err


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(directory, instructions) of a demonstration; a name that a shell would take apart."""
    directory = tmp_path_factory.mktemp("demo") / "to try"
    return directory, run("tls", "make-demo", str(directory)).output


def test_nothing_of_a_demo_lies_in_the_clear(demo: tuple[Path, str]) -> None:
    directory, _ = demo
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = {file.name: file for file in directory.iterdir()}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files.values())
    assert set(files) == {
        *("gateway.p12", "peer.p12", "peer.pem", "peer.key", "ca.pem", "trust.p12"),
        *("password", "scai.toml"),
    }
    password = files["password"].read_text().strip()
    assert load_pem_private_key(files["peer.key"].read_bytes(), password.encode())
    with pytest.raises(TypeError, match="encrypted"):
        load_pem_private_key(files["peer.key"].read_bytes(), None)
    assert not any(b"BEGIN PRIVATE KEY" in file.read_bytes() for file in files.values())
    assert password not in files["scai.toml"].read_text()


def test_a_demo_is_made_in_an_empty_directory_alone(
    demo: tuple[Path, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert "is not empty" in refused(capfd, "tls", "make-demo", str(demo[0]))
    below = str(demo[0] / "scai.toml" / "below")
    assert "cannot be made: Not a directory" in refused(capfd, "tls", "make-demo", below)


def test_show_and_check_of_a_demo(demo: tuple[Path, str]) -> None:
    directory, instructions = demo
    (line,) = [line for line in instructions.splitlines() if "scai tls show" in line]
    said = run(*shlex.split(line)[1:]).output
    assert "bcp195: BCP195 TLS  (in use)\n  TLS 1.3  TLS_AES_128_GCM_SHA256\n" in said
    assert "extended: Extended BCP195 TLS\n  TLS 1.2  DHE-RSA-AES128-GCM-SHA256\n" in said
    assert "used by: listener SCP_AE:2762; remote AE demo-peer" in said
    assert "(89 days left)" in said
    certificate = x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes())
    fingerprint = certificate.fingerprint(hashes.SHA256())
    assert fingerprint.hex(":").upper() in said
    assert (
        "TLS: profile bcp195, certificates until 20"
        in run("config", "check", str(directory / "scai.toml")).output
    )


def test_show_as_json(demo: tuple[Path, str]) -> None:
    shown = json.loads(run("tls", "show", "--json", "-c", str(demo[0] / "scai.toml")).output)
    assert [one["subject"] for one in shown["chain"]] == ["CN=SCAI demo gateway"]
    assert len(shown["trusted"]) == 1
    assert shown["suites"]["extended"][0] == "DHE-RSA-AES128-GCM-SHA256"
    assert shown["warnings"] == []


def test_show_without_stores() -> None:
    said = run("tls", "show").output
    assert "used by: nothing\nkey store: none" in said


def test_check_and_show_refuse_what_a_start_would(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stores = certificates.tls_settings(tmp_path, certificates.bad("expired"))
    file = tmp_path / "scai.toml"
    file.write_text(toml({"secured_scp": {"enabled": True}, "tls": stores}))
    for arguments in (("config", "check", str(file)), ("tls", "show", "-c", str(file))):
        assert "the certificate CN=peer expired on" in refused(capfd, *arguments)


def test_check_opens_the_stores_though_other_settings_are_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stores = certificates.tls_settings(tmp_path, certificates.bad("expired"))
    file = tmp_path / "scai.toml"
    settings = {"retry_count": 99, "secured_scp": {"enabled": True}, "tls": stores}
    file.write_text(toml(settings))
    said = refused(capfd, "config", "check", str(file))
    assert "2 problems" in said
    assert "retry_count = 99: must be" in said
    assert "the certificate CN=peer expired on" in said
    file.write_text(toml({**settings, "tls": {**stores, "profile": "any"}}))
    said = refused(capfd, "config", "check", str(file))
    assert "2 problems" in said
    assert "expired" not in said, "it is not known what is wanted of the stores"


def test_what_ends_soon_is_said(tmp_path: Path) -> None:
    soon = certificates.issue("soon", certificates.root(), ends=10)
    stores = certificates.tls_settings(tmp_path, soon)
    file = tmp_path / "scai.toml"
    file.write_text(toml({"secured_scp": {"enabled": True}, "tls": stores}))
    for arguments in (("config", "check", str(file)), ("tls", "show", "-c", str(file))):
        assert "warning: certificate CN=soon expires on" in run(*arguments).stderr


def moved(directory: Path, instructions: str) -> tuple[Gateway, list[str]]:
    """The demonstration on ports that are free, and the lines to type."""
    listener, peer, stats = free_ports(3)
    ports = {"2762": str(listener), "2763": str(peer)}
    gateway = Gateway(directory / "service")
    text = (directory / "scai.toml").read_text()
    for old, new in ports.items():
        text = text.replace(f"port = {old}", f"port = {new}")
        instructions = instructions.replace(f" {old}", f" {new}")
    gateway.config_file = directory / "moved.toml"
    assert "[stats]\nenabled = false\n" in text, "it starts beside another service"
    text = text.replace("[stats]\nenabled = false\n", f"[stats]\nport = {stats}\n")
    gateway.config_file.write_text(text)
    gateway.stats_port = stats
    return gateway, instructions.splitlines()


def line_of(lines: list[str], command: str) -> list[str]:
    (line,) = [line for line in lines if line.split()[:1] == [command]]
    words = shlex.split(line)
    return [f"/usr/bin/{words[0]}", *words[1:]]


@_dcmtk
@pytest.mark.process
def test_a_demo_runs_as_its_instructions_say(demo: tuple[Path, str]) -> None:
    gateway, lines = moved(*demo)
    try:
        gateway.start()
        subprocess.run(line_of(lines, "echoscu"), check=True, timeout=20, capture_output=True)
        plain = ["/usr/bin/echoscu", "-to", "3", "127.0.0.1", line_of(lines, "echoscu")[-1]]
        assert subprocess.run(plain, check=False, timeout=20, capture_output=True).returncode != 0
        with subprocess.Popen(
            line_of(lines, "storescp"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as scp:
            try:
                said = echoed(gateway.config_file)
            finally:
                scp.kill()
        assert said.returncode == 0, said.stdout
    finally:
        gateway.close()


def echoed(config_file: Path) -> subprocess.CompletedProcess[str]:
    """`scai echo demo-peer`, until storescp has begun to listen."""
    deadline = time.monotonic() + 15
    while True:
        said = subprocess.run(
            [*COMMAND, "echo", "-c", str(config_file), "demo-peer"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        if said.returncode == 0 or time.monotonic() > deadline:
            return said
        time.sleep(0.1)


def test_the_stores_of_a_demo_are_good_for_both_sides(demo: tuple[Path, str]) -> None:
    loaded = load_config(demo[0] / "scai.toml", os.environ)
    material = material_of(loaded.config)
    assert material is not None
    assert material.warnings == ()
    assert tls.effective_suites(tls.context_of(material)) == material.profile.suites
