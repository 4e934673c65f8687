"""Paths opened step by step: over no link, out of no directory, with openat2(2) and without."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import OperatorError
from engine.files import beneath
from engine.files.beneath import (
    open_beneath,
    open_directory,
    open_directory_beneath,
    overlap,
    own_directory,
)
from tests.rigs.local_users import needs_root, other_ids


@pytest.fixture(params=["openat2", "step by step"])
def held(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """A directory with something in it, and something beside it."""
    if request.param == "openat2":
        if not beneath._has_openat2():
            pytest.skip("this kernel has no openat2")
    else:
        monkeypatch.setattr(beneath, "_has_openat2", lambda: False)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "file").write_text("ours")
    (tmp_path / "outside").write_text("theirs")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "way").symlink_to("sub")
    directory = os.open(tmp_path / "in", os.O_RDONLY)
    yield directory
    os.close(directory)


def test_what_lies_below_is_opened(held: int) -> None:
    opened = open_beneath(held, "sub/file", os.O_RDONLY)
    assert os.read(opened, 10) == b"ours"
    assert not os.get_inheritable(opened)
    os.close(opened)
    for relative in ("", "sub"):
        os.close(open_directory_beneath(held, relative))


@pytest.mark.parametrize("path", ["link", "way/file", "../outside", "sub/../../outside", "/"])
def test_nothing_leads_out_or_over_a_link(held: int, path: str) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError):  # noqa: PT011 (ELOOP, ENOTDIR or EXDEV, as the way is)
        open_beneath(held, path, os.O_RDONLY)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("path", ["way", "sub/file", "nothing"])
def test_a_directory_is_none_by_a_link(held: int, path: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011
        open_directory_beneath(held, path)


def test_another_file_system_is_not_entered() -> None:
    root = os.open("/", os.O_RDONLY)
    try:
        for has in (True, False):
            with pytest.MonkeyPatch.context() as patched:
                if not has:
                    patched.setattr(beneath, "_has_openat2", lambda: False)
                with pytest.raises(OSError, match="cross-device"):
                    open_beneath(root, "proc/self", os.O_RDONLY)
    finally:
        os.close(root)


def test_a_path_of_the_operators_may_have_links(tmp_path: Path) -> None:
    (tmp_path / "real" / "in").mkdir(parents=True)
    (tmp_path / "one").symlink_to("real")
    (tmp_path / "two").symlink_to(tmp_path / "one")
    (tmp_path / "back").symlink_to("real/in/../in")
    for name in ("real/in", "one/in", "two/in", "back"):
        opened = open_directory(tmp_path / name)
        assert os.fstat(opened).st_ino == (tmp_path / "real" / "in").stat().st_ino
        os.close(opened)
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic links"):
        open_directory(tmp_path / "round")
    (tmp_path / "real" / "file").touch()
    with pytest.raises(NotADirectoryError):
        open_directory(tmp_path / "one" / "file")
    with pytest.raises(FileNotFoundError):
        open_directory(tmp_path / "nothing" / "in")


@pytest.mark.parametrize("theirs", ["the link", "the directory", "the mode"])
@needs_root
def test_a_link_that_somebody_else_may_have_laid_is_not_followed(
    tmp_path: Path, theirs: str
) -> None:
    around = tmp_path / "around"
    around.mkdir()
    link = around / "link"
    link.symlink_to(tmp_path)
    os.close(open_directory(link))
    if theirs == "the link":
        os.chown(link, *other_ids(), follow_symlinks=False)
    elif theirs == "the directory":
        os.chown(around, *other_ids())
    else:
        around.chmod(0o777)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OperatorError, match="name the directory itself"):
        open_directory(link)
    assert os.listdir("/proc/self/fd") == before
    if theirs == "the mode":
        around.chmod(0o1777)
        os.close(open_directory(link))


def test_a_directory_of_ours_is_made_and_found_again(held: int, tmp_path: Path) -> None:
    for _ in range(2):
        os.close(own_directory(held, "own", "here"))
    assert (tmp_path / "in" / "own").stat().st_mode & 0o777 == 0o700
    with pytest.raises(OperatorError, match=r"^here: link/ in it is not ours alone"):
        own_directory(held, "link", "here")


def test_overlaps(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    held = os.open(tmp_path / "a", os.O_RDONLY)
    try:
        assert overlap(held, [tmp_path / "c", tmp_path / "nothing"]) == ""
        for other in ("a", "a/b", "."):
            assert overlap(held, [tmp_path / "c", tmp_path / other]) == str(tmp_path / other)
    finally:
        os.close(held)
