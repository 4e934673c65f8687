"""`scai send`: what is looked at, queued, watched; what it says when something is in the way."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement

from engine.outbox.records import State
from engine.outbox.spool import OUTBOX_DIRECTORY
from tests.material import samples
from tests.material.waiting import eventually
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.gateway import COMMAND, ROOT, Gateway
from tests.rigs.sending import ct_files

pytestmark = pytest.mark.process


def remote(name: str, port: int, more: str = "") -> str:
    return (
        f'[[remotes]]\nname = "{name}"\nae_title = "{name.upper()}"\nhost = "127.0.0.1"\n'
        f"port = {port}\n{more}\n"
    )


@pytest.fixture
def peer() -> Iterator[ScriptedPeer]:
    with ScriptedPeer(Scp()) as opened:
        yield opened


@pytest.fixture
def gateway(peer: ScriptedPeer, make_gateway: Callable[..., Gateway]) -> Gateway:
    made = make_gateway({"application_timeout_s": 1, "response_timeout_s": 1})
    text = remote("pacs", peer.port) + remote("other", peer.port, 'associations = "reuse"')
    made.config_file.write_text(made.config_file.read_text() + text)
    return made


@contextmanager
def running_with(peer: ScriptedPeer, directory: Path, more: str = "") -> Iterator[Gateway]:
    """A service that knows this peer alone, as `pacs`."""
    with closing(Gateway(directory / "gateway", {"send": {"retry_pause_s": 1}})) as service:
        text = service.config_file.read_text() + remote("pacs", peer.port, more)
        service.config_file.write_text(text)
        yield service.start()


def begun(gateway: Gateway, paths: list[Path]) -> subprocess.Popen[str]:
    """`scai send` of these files to `pacs`, still at it."""
    command = [*COMMAND, "send", "-c", str(gateway.config_file), "--to", "pacs"]
    return subprocess.Popen(
        [*command, *map(str, paths)],
        env=gateway.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=_take_interrupts,
    )


def _take_interrupts() -> None:
    """What a shell starts in the background, as these tests may be, has SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def copies(gateway: Gateway) -> int:
    return len(list((gateway.data / OUTBOX_DIRECTORY).iterdir()))


def test_files_and_directories_to_two_remotes(
    gateway: Gateway, peer: ScriptedPeer, tmp_path: Path
) -> None:
    gateway.start()
    ct_files(tmp_path / "in" / "deep", 5)
    (tmp_path / "in" / "DICOMDIR").write_bytes(b"not for sending")
    said = gateway.command("send", "--to", "pacs", "--to", "other", str(tmp_path / "in"))
    assert (said.returncode, said.stdout) == (0, "10 of 10 delivered\n"), said.stderr
    assert said.stderr == ""
    assert len(peer.commands) == 10
    assert {delivery.origin for delivery in gateway.deliveries()} == {"user"}
    eventually(lambda: copies(gateway) == 0, 20, "the copies are removed")


def test_bad_files_are_reported_and_the_others_sent(
    gateway: Gateway, peer: ScriptedPeer, tmp_path: Path
) -> None:
    gateway.start()
    (good,) = ct_files(tmp_path / "in", 1)
    bad = tmp_path / "bad\x1b[31m.dcm"
    bad.write_bytes(b"nothing")
    enhanced = samples.original("eCT_Supplemental.dcm")
    said = gateway.command("send", "--to", "pacs", str(good), str(bad), str(enhanced), "missing")
    assert said.returncode == 1
    assert said.stdout == "1 of 1 delivered, 3 cannot be sent\n"
    assert "missing: cannot be sent: no such file or directory" in said.stderr
    assert "\x1b" not in said.stderr
    assert said.stderr.count("cannot be sent") == 3
    assert "never sent" in said.stderr
    assert len(peer.stored) == 1
    nothing = gateway.command("send", "--to", "pacs", "missing")
    assert nothing.returncode == 1
    assert "nothing is queued" in nothing.stderr


def test_what_is_stored_is_sent_by_uid(
    gateway: Gateway, peer: ScriptedPeer, tmp_path: Path
) -> None:
    gateway.start()
    paths = ct_files(tmp_path / "in", 3)
    command = ["/usr/bin/storescu", "-aec", "SCP_AE", "127.0.0.1", str(gateway.port)]
    subprocess.run([*command, *map(str, paths)], check=True, timeout=30)
    rows = gateway.find()
    one = next(iter(rows.values()))
    for option, key, count in (
        ("--instance", "sop_instance_uid", 1),
        ("--series", "series_instance_uid", 3),
        ("--study", "study_instance_uid", 3),
    ):
        said = gateway.command("send", "--to", "pacs", option, one[key])
        assert (said.returncode, said.stdout) == (0, f"{count} of {count} delivered\n"), said
    assert len(peer.commands) == 7
    unknown = gateway.command("send", "--to", "pacs", "--study", "1.2.3")
    assert unknown.returncode == 2
    assert "no study of this UID" in unknown.stderr


def test_failures_are_told(tmp_path: Path) -> None:
    (good,) = ct_files(tmp_path / "in", 1)
    with (
        ScriptedPeer(Scp(statuses=[0xA900])) as refuses,
        running_with(refuses, tmp_path) as gateway,
    ):
        said = gateway.command("send", "--to", "pacs", str(good))
    assert said.returncode == 1
    assert "A900 data set does not match SOP class" in said.stderr
    assert said.stdout.startswith("0 of 1 delivered, 1 failed")
    assert len(refuses.commands) == 2, "it was tried again once"


def test_a_remote_that_is_away_is_named_and_not_waited_for(tmp_path: Path) -> None:
    (good,) = ct_files(tmp_path / "in", 1)
    with ScriptedPeer(Scp()) as gone, running_with(gone, tmp_path) as gateway:
        gone.listener.shutdown(socket.SHUT_RDWR)  # nobody listens any more
        said = gateway.command("send", "--to", "pacs", str(good))
    assert said.returncode == 1
    assert said.stdout.startswith("0 of 1 delivered, 1 still queued: pacs is away: ")
    assert said.stdout.endswith("; they go out when it is back\n")


def test_without_a_service_it_is_queued(
    gateway: Gateway, peer: ScriptedPeer, tmp_path: Path
) -> None:
    (good,) = ct_files(tmp_path / "in", 1)
    early = gateway.command("send", "--to", "pacs", str(good))
    assert early.returncode == 2
    assert "start the service once" in early.stderr
    gateway.start()
    assert gateway.stop() == 0
    said = gateway.command("send", "--to", "pacs", str(good))
    assert said.returncode == 0
    assert (
        said.stdout == "1 delivery queued: no service runs on this data; they go out when it does\n"
    )
    good.unlink()
    gateway.start()
    eventually(lambda: len(peer.stored) == 1, 10, "it goes out")


def test_a_paused_remote_is_not_waited_for(gateway: Gateway, tmp_path: Path) -> None:
    (good,) = ct_files(tmp_path / "in", 1)
    gateway.start()
    assert gateway.command("queue", "pause", "pacs").returncode == 0
    said = gateway.command("send", "--to", "pacs", str(good))
    assert said.returncode == 0
    assert "pacs is paused" in said.stdout
    assert gateway.delivery_counts() == {("pacs", State.WAITING): 1}
    assert gateway.command("queue", "resume", "pacs").returncode == 0
    eventually(lambda: gateway.delivery_counts() == {("pacs", State.DELIVERED): 1}, 10, "sent")


def test_interrupted_it_leaves_what_is_queued(tmp_path: Path) -> None:
    paths = ct_files(tmp_path / "in", 3)
    go_on = threading.Event()
    with ScriptedPeer(Scp(go_on=go_on)) as slow, running_with(slow, tmp_path) as gateway:
        child = begun(gateway, paths)
        eventually(lambda: len(gateway.deliveries()) == 3, 10, "queued")
        eventually(lambda: len(slow.commands) > 0, 10, "the first is being sent")
        os.kill(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=20)
        go_on.set()
        assert child.returncode == 130
        assert "still queued" in said
        gateway.wait_settled(30, 3)
        assert len(slow.stored) == 3


@pytest.mark.parametrize(
    ("stops", "why"),
    [("pause", "pacs is paused"), ("stop", "no service runs on this data")],
)
def test_what_nobody_sends_any_more_is_not_watched(tmp_path: Path, stops: str, why: str) -> None:
    paths = ct_files(tmp_path / "in", 20)
    reuse = 'associations = "reuse"'
    with ScriptedPeer(Scp(slow_s=1)) as slow, running_with(slow, tmp_path, reuse) as gateway:
        child = begun(gateway, paths)
        eventually(lambda: len(slow.links) > 0, 10, "the first is being sent")
        if stops == "pause":
            assert gateway.command("queue", "pause", "pacs").returncode == 0
        else:
            assert gateway.stop() == 0
        said, _ = child.communicate(timeout=30)
        assert child.returncode == 1
        assert f"still queued: {why}" in said


def test_unknown_names_and_nothing_to_send(gateway: Gateway) -> None:
    unknown = gateway.command("send", "--to", "nobody", "x")
    assert unknown.returncode == 2
    assert "there are: pacs, other" in unknown.stderr
    nothing = gateway.command("send", "--to", "pacs")
    assert nothing.returncode == 2


@pytest.mark.parametrize(
    "study", ["1.2." + "3" * 80, "", "none-at-all"], ids=["too long", "none", "words"]
)
def test_odd_study_uids_are_sent_whether_received_or_given(
    gateway: Gateway, peer: ScriptedPeer, tmp_path: Path, study: str
) -> None:
    """The same answer on both ways: the file as it is, and the instance that it was received as."""
    gateway.start()
    (path,) = ct_files(tmp_path / "in", 1)
    dataset = pydicom.dcmread(path)
    dataset[0x0020000D] = DataElement(0x0020000D, "UI", study, validation_mode=IGNORE)
    dataset.save_as(path)
    command = ["/usr/bin/storescu", "-aec", "SCP_AE", "127.0.0.1", str(gateway.port), str(path)]
    subprocess.run(command, check=True, timeout=30)
    (uid,) = gateway.find()
    ways = [[str(path)], ["--instance", uid]] + ([["--study", study]] if study else [])
    for way in ways:
        said = gateway.command("send", "--to", "pacs", *way)
        assert (said.returncode, said.stdout) == (0, "1 of 1 delivered\n"), said
    assert len(peer.commands) == len(ways)
