"""`scai export`: what is copied, how it is checked, and what goes wrong leaves nothing behind.

DCMTK's storescu brings what is exported; pydicom and sha256sum read it.
"""

import json
import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner

from engine.errors import OperatorError
from engine.index.environment import open_index_reader
from tests.rigs.gateway import Gateway
from tests.rigs.sending import ct_files
from tools.commands import export as export_command
from tools.commands.export_copies import Export, NotAsWritten
from tools.commands.export_places import DirectoryPlace, ZipPlace, open_place
from tools.commands.selection import Selection
from tools.face.operators_log import orders

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Three instances of one study, its patient corrected; the service goes on."""
    directory = tmp_path_factory.mktemp("export")
    gateway = Gateway(directory / "gateway").start()
    try:
        paths = ct_files(directory / "in", 3)
        command = ["/usr/bin/storescu", "-aec", "SCP_AE", "127.0.0.1", str(gateway.port)]
        subprocess.run([*command, *map(str, paths)], check=True, timeout=30)
        gateway.find()
        said = gateway.command("edit", "--study", study(gateway), "PatientName=山田^太郎", "--yes")
        assert said.returncode == 0, said
        yield gateway
    finally:
        gateway.close()


def study(gateway: Gateway) -> str:
    return str(next(iter(gateway.find().values()))["study_instance_uid"])


def originals(gateway: Gateway) -> dict[str, bytes]:
    return {uid: gateway.stored_file(row).read_bytes() for uid, row in gateway.find().items()}


def copies(directory: Path) -> dict[str, Path]:
    return {pydicom.dcmread(path).SOPInstanceUID: path for path in directory.rglob("*.dcm")}


def test_a_study_is_copied_with_its_corrections(stored: Gateway, tmp_path: Path) -> None:
    target = tmp_path / "out"
    said = stored.command("export", "--study", study(stored), "--to", str(target), "--json")
    assert said.returncode == 0, said
    assert json.loads(said.stdout)["instances"] == 3
    *_, order = orders(stored.data)
    assert (order["order"], order["study_uids"]) == ("export", [study(stored)])
    assert str(target) not in str(order), "its name may be a patient's"
    whole = originals(stored)
    for uid, path in copies(target).items():
        copy, original = (
            pydicom.dcmread(path),
            pydicom.dcmread(stored.stored_file(stored.find()[uid])),
        )
        assert str(copy.PatientName) == "山田^太郎"
        assert copy.PixelData == original.PixelData
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_bytes() != whole.pop(uid)
    assert not whole
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=target, check=True)
    lines = [json.loads(line) for line in (target / "manifest.jsonl").read_text().splitlines()]
    assert {line["sop_instance_uid"] for line in lines} == set(originals(stored))
    assert all(line["corrected"] == ["PatientName"] for line in lines)
    assert all((target / line["file"]).stat().st_size == line["bytes"] for line in lines)


def test_as_received_is_byte_for_byte_in_a_zip_file_too(stored: Gateway, tmp_path: Path) -> None:
    target = tmp_path / "out.zip"
    said = stored.command("export", "--study", study(stored), "--to", str(target), "--as-received")
    assert said.returncode == 0, said
    assert target.stat().st_mode & 0o777 == 0o600
    subprocess.run(["unzip", "-q", str(target), "-d", str(tmp_path / "unzipped")], check=True)
    found = {uid: path.read_bytes() for uid, path in copies(tmp_path / "unzipped").items()}
    assert found == originals(stored)
    subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path / "unzipped", check=True)
    assert {path.name for path in tmp_path.iterdir()} == {"out.zip", "unzipped"}


def test_what_is_asked_for_twice_is_copied_once(stored: Gateway, tmp_path: Path) -> None:
    uid, row = next(iter(stored.find().items()))
    said = stored.command(
        "export", "--instance", uid, "--series", row["series_instance_uid"], "--instance", uid,
        "--to", str(tmp_path / "out"), "--json",
    )  # fmt: skip
    assert json.loads(said.stdout)["instances"] == 3, said
    assert len(copies(tmp_path / "out")) == 3


def test_what_is_not_as_it_was_stored_is_named_and_not_copied(
    make_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    gateway = make_gateway().start()
    paths = ct_files(tmp_path / "in", 3)
    command = ["/usr/bin/storescu", "-aec", "SCP_AE", "127.0.0.1", str(gateway.port)]
    subprocess.run([*command, *map(str, paths)], check=True, timeout=30)
    rows = gateway.find()
    damaged, gone, good = rows
    with gateway.stored_file(rows[damaged]).open("r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"\x55")
    gateway.stored_file(rows[gone]).unlink()
    for target in (tmp_path / "out", tmp_path / "out.zip"):
        said = gateway.command("export", "--study", study(gateway), "--to", str(target))
        assert said.returncode == 1, said
        assert f"missing: {damaged}: its file is not what was stored" in said.stderr
        assert f"missing: {gone}: its file cannot be opened: No such file" in said.stderr
    assert list(copies(tmp_path / "out")) == [good]
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        lines = opened.read("manifest.jsonl").decode().splitlines()
    named = {one["sop_instance_uid"]: one.get("missing", "") for one in map(json.loads, lines)}
    assert [bool(named[uid]) for uid in (damaged, gone, good)] == [True, True, False]


def refused(gateway: Gateway, target: Path) -> str:
    said = gateway.command("export", "--study", study(gateway), "--to", str(target))
    assert said.returncode == 2, said
    return said.stderr


def test_nothing_that_is_there_is_touched(stored: Gateway, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs").write_text("x")
    assert "is not empty" in refused(stored, tmp_path / "full")
    (tmp_path / "there.zip").write_text("x")
    assert "is there already" in refused(stored, tmp_path / "there.zip")
    (tmp_path / "other.zip.part").write_text("x")
    assert "an export to it goes on, or was killed" in refused(stored, tmp_path / "other.zip")
    data = stored.stored_file(next(iter(stored.find().values()))).parents[4]
    assert "overlaps with" in refused(stored, data / "out")
    assert "overlaps with" in refused(stored, data / "store" / "out.zip")
    assert not (data / "out").exists()
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    assert "can be changed by every user" in refused(stored, tmp_path / "open")
    assert "No such file" in refused(stored, tmp_path / "not" / "there")
    assert (
        "no study of this UID"
        in stored.command("export", "--study", "1.2.3", "--to", str(tmp_path / "unknown")).stderr
    )
    assert not (tmp_path / "unknown").exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "full", "there.zip", "other.zip.part", "open",
    }  # fmt: skip
    assert (tmp_path / "full" / "theirs").read_text() == "x"


@pytest.mark.parametrize("name", ["out", "out.zip"])
@pytest.mark.parametrize("step", ["write", "seal", "read", "publish"])
def test_what_fails_on_the_way_leaves_nothing(
    stored: Gateway, tmp_path: Path, name: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    kind = ZipPlace if name.endswith(".zip") else DirectoryPlace
    monkeypatch.setattr(kind, step, fail)
    said = CliRunner().invoke(
        export_command.command,
        ["-c", str(stored.config_file), "--study", study(stored), "--to", str(tmp_path / name)],
        standalone_mode=False,
    )
    assert isinstance(said.exception, OperatorError), said
    assert "No space left on device; nothing was left there" in str(said.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_what_the_disk_gives_back_otherwise_is_not_published(
    stored: Gateway, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = open_place(tmp_path / name, [])
    read = place.read
    monkeypatch.setattr(place, "read", lambda name: [*[*read(name)][:-1], b"other"])
    data = stored.stored_file(next(iter(stored.find().values()))).parents[4]
    with (
        closing(open_index_reader(data)) as reader,
        Export(data, place, False, lambda done: None) as export,
    ):
        export.choose(reader, Selection(studies=[study(stored)]))
        with pytest.raises(NotAsWritten):
            export.run()
    place.discard()
    place.close()
    assert not list(tmp_path.iterdir())
