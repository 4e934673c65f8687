"""Who else may change what is ours is told, with the command that mends it."""

import os
import subprocess
from pathlib import Path

import pytest

from engine.files import trust
from engine.files.trust import who_else, who_replaces
from tests.rigs.local_users import needs_root, other_ids


def mended(words: str) -> None:
    """Run the command that the words end with."""
    _, _, command = words.partition("Mend it: ")
    subprocess.run(["/bin/sh", "-c", command.partition(", or")[0]], check=True)


@pytest.mark.parametrize(
    ("mode", "words"), [(0o777, "every user (mode 0777)"), (0o720, "the group"), (0o1777, "every")]
)
def test_what_others_may_write_to(tmp_path: Path, mode: int, words: str) -> None:
    path = tmp_path / "it's mine"
    path.mkdir()
    path.chmod(0o755)
    assert who_else(path, (os.geteuid(),)) == ""
    path.chmod(mode)
    assert words in who_else(path, (os.geteuid(),))
    mended(who_else(path, (os.geteuid(),)))
    assert who_else(path, (os.geteuid(),)) == ""
    assert who_else(tmp_path / "nothing", (os.geteuid(),)) == ""


@needs_root
def test_what_belongs_to_another(tmp_path: Path) -> None:
    path = tmp_path / "theirs"
    path.mkdir()
    os.chown(path, *other_ids())
    words = who_else(path, (os.geteuid(),))
    assert words.startswith("belongs to nobody, and the service runs as root")
    assert who_else(path, (os.geteuid(), other_ids()[0])) == ""
    mended(words)
    assert who_else(path, (os.geteuid(),)) == ""


@needs_root
def test_what_a_container_sees_of_roots_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their owner is not known there: that is no other user, where root's will do."""
    path = tmp_path / "scai.toml"
    path.touch()
    os.chown(path, *other_ids())
    assert who_else(path, (0, 4711), 4711).startswith("belongs to nobody")
    monkeypatch.setattr(trust, "_is_unknown", lambda user: user == other_ids()[0])
    assert who_else(path, (0, 4711), 4711) == ""
    assert who_else(path, (4711,), 4711).startswith("belongs to nobody")
    path.chmod(0o666)
    assert "every user" in who_else(path, (0, 4711), 4711)


@pytest.mark.parametrize(("mode", "refused"), [(0o755, False), (0o777, True), (0o1777, False)])
def test_who_may_put_another_in_its_place(tmp_path: Path, mode: int, refused: bool) -> None:
    path = tmp_path / "above" / "between" / "data"
    path.mkdir(parents=True)
    above = tmp_path / "above"
    above.chmod(mode)
    where, words = who_replaces(path)
    assert where == (str(above) if refused else "")
    if refused:
        mended(words)
    assert who_replaces(path) == ("", "")
    assert who_replaces(tmp_path / "not" / "yet") == ("", "")


@needs_root
def test_a_group_that_is_not_ours_and_an_owner_that_is_not(tmp_path: Path) -> None:
    path = tmp_path / "above" / "data"
    path.mkdir(parents=True)
    (tmp_path / "above").chmod(0o775)
    assert who_replaces(path) == ("", ""), "a group of our own"
    os.chown(tmp_path / "above", -1, other_ids()[1])
    assert "by others (mode 0775)" in who_replaces(path)[1]
    os.chown(tmp_path / "above", *other_ids())
    assert "belongs to nobody, who could put" in who_replaces(path)[1]


def test_the_way_over_a_link_counts_too(tmp_path: Path) -> None:
    (tmp_path / "real" / "data").mkdir(parents=True)
    (tmp_path / "ways").mkdir()
    (tmp_path / "ways" / "data").symlink_to(tmp_path / "real" / "data")
    path = tmp_path / "ways" / "data"
    assert who_replaces(path) == ("", "")
    for name in ("real", "ways"):
        (tmp_path / name).chmod(0o777)
        assert who_replaces(path)[0] == str(tmp_path / name)
        (tmp_path / name).chmod(0o755)
