"""Sending by the running service: DCMTK, sudden deaths, drains, reloads, pauses, folders."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.outbox.records import State
from tests.material import certificates, wire
from tests.material.waiting import eventually, free_ports, within
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.gateway import Gateway
from tests.rigs.sending import ct_files

pytestmark = pytest.mark.process


def remote(name: str, port: int, more: str = "") -> str:
    return (
        f'[[remotes]]\nname = "{name}"\nae_title = "{name.upper()}"\nhost = "127.0.0.1"\n'
        f"port = {port}\n{more}\n"
    )


def rule(*names: str) -> str:
    return f'[[rules]]\nname = "all"\nto = {list(names)}\n'.replace("'", '"')


def made(directory: Path, text: str, **settings: object) -> Gateway:
    gateway = Gateway(
        directory / "gateway", {"application_timeout_s": 2, "response_timeout_s": 2, **settings}
    )
    own = gateway.config_file.read_text()
    gateway.config_file.write_text(own + "[send]\nretry_pause_s = 1\n" + text)
    return gateway


@contextmanager
def closing_gateway(gateway: Gateway) -> Iterator[Gateway]:
    try:
        yield gateway
    finally:
        gateway.close()


def store(gateway: Gateway, paths: list[Path]) -> None:
    command = ["/usr/bin/storescu", "-R", "-aec", "SCP_AE", "127.0.0.1", str(gateway.port)]
    subprocess.run([*command, *map(str, paths)], check=True, timeout=120)


@contextmanager
def storescp(directory: Path, *options: str) -> Iterator[int]:
    """DCMTK's receiver; its port."""
    directory.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    command = ["/usr/bin/storescp", "-aet", "PACS", "-od", str(directory), *options, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        assert process.poll() is None
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("associations", ["each", "reuse"])
def test_dcmtk_receives(tmp_path: Path, associations: str) -> None:
    """One process, one association at a time: the four others of ours have to wait."""
    with storescp(tmp_path / "received", "+B", "+xa") as port:
        gateway = made(tmp_path, remote("pacs", port, f'associations = "{associations}"'))
        with closing_gateway(gateway):
            gateway.start()
            paths = ct_files(tmp_path / "in", 30)
            said = gateway.command("send", "--to", "pacs", str(tmp_path / "in"))
            assert said.stdout == "30 of 30 delivered\n", said.stderr
            attempts = {delivery.attempts for delivery in gateway.deliveries()}
    assert attempts == {1}
    received = {path.read_bytes()[-30_000:] for path in (tmp_path / "received").iterdir()}
    assert len(list((tmp_path / "received").iterdir())) == 30
    assert received == {path.read_bytes()[-30_000:] for path in paths}


@pytest.mark.parametrize(
    ("options", "reason"),
    [(("--refuse",), "rejected"), (("--abort-after",), "abort"), (("--abort-during",), "abort")],
)
def test_dcmtk_that_fails(tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    with storescp(tmp_path / "received", *options) as port:
        gateway = made(tmp_path, remote("pacs", port))
        with closing_gateway(gateway):
            gateway.start()
            said = gateway.command("send", "--to", "pacs", *map(str, ct_files(tmp_path / "in", 1)))
            (delivery,) = gateway.deliveries()
    assert said.returncode == 1
    assert delivery.state is State.FAILED
    assert reason in delivery.reason


def test_the_sender_is_killed_again_and_again(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 150)
    with ScriptedPeer(Scp(slow_s=0.01)) as steady, ScriptedPeer(Scp(slow_s=0.02)) as other:
        text = remote("steady", steady.port) + remote("other", other.port, 'associations="reuse"')
        gateway = made(tmp_path, text + rule("steady", "other"))
        with closing_gateway(gateway):
            gateway.start()
            pid = 0
            store(gateway, paths)
            for _ in range(4):
                time.sleep(0.15)
                before = pid
                pid = eventually(
                    lambda before=before: (found := gateway.pid("sender")) != before and found,
                    10,
                    "a sender runs",
                )
                os.kill(pid, signal.SIGKILL)
            done = gateway.wait_settled(40, 300)
        assert {delivery.state for delivery in done} == {State.DELIVERED}
        assert len(done) == 300
    assert len(steady.stored) == len(other.stored) == 150


def test_everything_is_killed_and_started_again(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 80)
    with ScriptedPeer(Scp(slow_s=0.03)) as peer:
        gateway = made(tmp_path, remote("pacs", peer.port) + rule("pacs"))
        with closing_gateway(gateway):
            gateway.start()
            store(gateway, paths)
            eventually(lambda: len(peer.stored) > 10, 10, "some are sent")
            gateway.kill_everything()
            gateway.start()
            done = gateway.wait_settled(40, 80)
        assert {(delivery.state, delivery.attempts) for delivery in done} == {(State.DELIVERED, 1)}
    assert len(peer.stored) == 80


def test_a_stop_lets_what_is_sent_finish(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 30)
    with ScriptedPeer(Scp(slow_s=0.5)) as peer:
        gateway = made(tmp_path, remote("pacs", peer.port) + rule("pacs"))
        with closing_gateway(gateway):
            gateway.start()
            store(gateway, paths)
            eventually(lambda: len(peer.links) >= 5, 10, "five are under way")
            began = time.monotonic()
            assert gateway.stop() == 0
            assert time.monotonic() - began < within(8)
            counts = gateway.delivery_counts()
        assert counts["pacs", State.DELIVERED] == len(peer.stored) >= 5
        assert counts["pacs", State.WAITING] == 30 - len(peer.stored)
        assert set(counts) == {("pacs", State.DELIVERED), ("pacs", State.WAITING)}


def test_what_does_not_finish_in_time_waits_again(tmp_path: Path) -> None:
    (path,) = ct_files(tmp_path / "in", 1)
    with ScriptedPeer(Scp(fault="hang")) as peer:
        text = remote("pacs", peer.port) + rule("pacs")
        gateway = made(tmp_path, text, response_timeout_s=60, drain_timeout_s=2)
        with closing_gateway(gateway):
            gateway.start()
            store(gateway, [path])
            eventually(lambda: bool(peer.commands), 10, "it is under way")
            assert gateway.stop() == 0
            (delivery,) = gateway.deliveries()
    assert (delivery.state, delivery.attempts) == (State.WAITING, 0)


def test_remotes_come_and_go_with_reloads(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 2)
    with ScriptedPeer(Scp()) as peer:
        gateway = made(tmp_path, "")
        bare = gateway.config_file.read_text()
        with closing_gateway(gateway):
            gateway.start()
            assert "sender" not in gateway.processes(), "there is nobody to send to"

            def reload(text: str) -> None:
                gateway.config_file.write_text(bare + text)
                before = sum(line["event"] == "reloaded" for line in gateway.log())
                assert gateway.process is not None
                os.kill(gateway.process.pid, signal.SIGHUP)
                eventually(
                    lambda: sum(line["event"] == "reloaded" for line in gateway.log()) > before,
                    10,
                    "reloaded",
                )

            reload(remote("pacs", peer.port, "paused = true") + rule("pacs"))
            eventually(lambda: gateway.processes().get("sender"), 10, "the sender runs")
            pid = gateway.pid("sender")
            store(gateway, paths[:1])
            eventually(lambda: gateway.deliveries(), 10, "queued")
            time.sleep(0.3)
            assert gateway.delivery_counts() == {("pacs", State.WAITING): 1}, "it is paused"
            reload(remote("pacs", peer.port) + rule("pacs"))
            eventually(lambda: len(peer.stored) == 1, 10, "sent after the pause")
            assert gateway.pid("sender") == pid, "the same process"
            reload("")
            eventually(lambda: "sender" not in gateway.processes(), 10, "the sender ended")


def test_a_watched_folder(tmp_path: Path) -> None:
    folder = tmp_path / "outgoing"
    folder.mkdir()
    with ScriptedPeer(Scp()) as peer:
        gateway = made(tmp_path, remote("pacs", peer.port, f'outgoing_directory = "{folder}"'))
        with closing_gateway(gateway):
            gateway.start()
            for path in ct_files(tmp_path / "in", 3):
                shutil.move(path, folder / path.name)
            (folder / "bad.dcm").write_bytes(b"nothing")
            eventually(lambda: len(peer.stored) == 3, 15, "sent")
            reason = folder / "rejected" / "bad.dcm.reason.txt"
            eventually(reason.exists, 10, "the bad one is set aside")
            metrics = gateway.metrics()
            folder.rename(tmp_path / "elsewhere")
            eventually(
                lambda: any(
                    line["event"] == "folder_fault" and str(folder) in line["text"]
                    for line in gateway.log()
                ),
                10,
                "it says that the folder is gone",
            )
            assert gateway.stop() == 0
    labels = '{ae="SCP_AE",process="sender"}'
    assert metrics[f"scai_outbox_collected_total{labels}"] == 3
    log = gateway.log_file.read_text()
    assert "bad.dcm" not in log, "names of files may be patients'"


@pytest.mark.parametrize("associations", ["each", "reuse"])
def test_a_remote_that_is_spoken_to_over_tls(tmp_path: Path, associations: str) -> None:
    context = certificates.server_context(tmp_path)
    stores = certificates.tls_settings(tmp_path / "stores")
    paths = ct_files(tmp_path / "in", 8, extra_bytes=700_000)
    abrupt = Scp(fault="abort", fault_bytes=400_000)
    with ScriptedPeer(Scp(), tls=context) as peer, ScriptedPeer(abrupt, tls=context) as bad:
        more = f'tls = true\nassociations = "{associations}"'
        text = remote("pacs", peer.port, more) + remote("bad", bad.port, more)
        gateway = made(tmp_path, text + remote("plain", peer.port), tls=stores)
        with closing_gateway(gateway):
            gateway.start()
            said = gateway.command("send", "--to", "pacs", *map(str, paths))
            assert said.stdout == "8 of 8 delivered\n", said.stderr
            broken = gateway.command("send", "--to", "bad", str(paths[0]))
            assert "abort" in broken.stderr
            gateway.command("send", "--no-wait", "--to", "plain", str(paths[0]))
            plain = ("plain", State.WAITING)
            eventually(lambda: "plain is away" in gateway.command("status").stdout, 20)
            done = gateway.deliveries()
    states = {(delivery.destination, delivery.state) for delivery in done}
    assert states == {
        ("pacs", State.DELIVERED),
        ("bad", State.FAILED),
        plain,  # the peer wants TLS, and what is configured plain stays plain
    }
    assert len(peer.stored) == 8
    assert all(len(stored.data) > 700_000 for stored in peer.stored.values())


def test_numbers_status_and_log(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 4)
    said = b"PATIENT DOE "
    with ScriptedPeer(Scp(statuses=[0, 0xB000, 0xA900], comment=said)) as peer:
        gateway = made(tmp_path, remote("pacs", peer.port) + rule("pacs"))
        with closing_gateway(gateway):
            gateway.start()
            store(gateway, paths)
            done = gateway.wait_settled(20, 4)
            metrics = gateway.metrics()
            status = gateway.status()
    by_outcome = {
        name.split('outcome="')[1].split('"')[0]: value
        for name, value in metrics.items()
        if name.startswith("scai_sent_attempts_total")
    }
    assert by_outcome["success"] == 1
    assert by_outcome["warning"] == 1
    assert by_outcome["refused"] == 4
    assert sum(delivery.warning for delivery in done) == 1
    assert any(said.decode().strip() in delivery.reason for delivery in done)
    failed = 'scai_outbox_deliveries{ae="SCP_AE",process="sender",state="failed"}'
    assert metrics[failed] == 2
    (sender,) = [one for one in status["processes"] if one["role"] == "sender"]
    assert (sender["state"], sender["association_limit"]) == ("ready", 5)
    outbox = {name: count for name, count in status["outbox"].items() if count}
    assert outbox == {"delivered": 2, "failed": 2}
    events = [line["event"] for line in gateway.log()]
    assert events.count("instance_sent") == 2
    assert events.count("delivery_failed") == 2
    assert "DOE" not in gateway.log_file.read_text(), "a peer's comment stays out of the log"
    assert peer.stored
    assert {stored.sop_class for stored in peer.stored.values()} == {wire.CT_IMAGE}
