"""`scai run --check`: could it start, also beside its own service that runs."""

import json
import socket
from pathlib import Path

import pytest

from tests.rigs.gateway import Gateway
from tools.face.terminal import Exit


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path / "gateway")


def test_alone_its_ports_are_free(gateway: Gateway) -> None:
    done = gateway.command("run", "--check")
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert f"port {gateway.port} of 127.0.0.1 is free\n" in done.stdout
    assert not gateway.data.exists(), "nothing is made"


def test_a_port_that_another_holds(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", gateway.port)):
        done = gateway.command("run", "--check")
    assert done.returncode == Exit.OPERATOR
    assert str(gateway.port) in done.stderr


def test_json_is_of_the_check_alone(gateway: Gateway) -> None:
    assert "--check" in gateway.command("run", "--json").stderr


@pytest.mark.process
def test_beside_its_own_service(gateway: Gateway) -> None:
    gateway.start()
    try:
        done = gateway.command("run", "--check")
        assert (done.returncode, done.stderr) == (Exit.OK, "")
        for port in (gateway.port, gateway.prefetch_port, gateway.stats_port):
            assert f"port {port} of 127.0.0.1 is this service's own, which runs\n" in done.stdout
        lines = [
            json.loads(line)
            for line in gateway.command("run", "--check", "--json").stdout.splitlines()
        ]
        assert {line["port"] for line in lines if line.get("own")} == {
            *(gateway.port, gateway.prefetch_port, gateway.stats_port)
        }
        # A new port is tried, and an address that the service does not listen on is not its own.
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            settings = gateway.config_file.read_text()
            gateway.config_file.write_text(settings.replace(f"= {gateway.port}\n", f"= {port}\n"))
            refused = gateway.command("run", "--check")
        assert (refused.returncode, refused.stdout) == (Exit.OPERATOR, "")
        assert str(port) in refused.stderr
        other = gateway.config_file.read_text().replace(str(gateway.data), str(gateway.data) + "2")
        gateway.config_file.write_text(other.replace(f"= {port}\n", f"= {gateway.port}\n"))
        assert gateway.command("run", "--check").returncode == Exit.OPERATOR, "another's data"
    finally:
        gateway.close()
