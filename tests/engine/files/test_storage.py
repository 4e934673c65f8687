"""The tree: names that cannot escape it, placing that may be repeated, removing that tidies up."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.files import tree as storage
from engine.files.tree import StoreTree, component, instance_path


@pytest.mark.parametrize("uid", ["1.2.840.10008.1", "0", "2.25." + "9" * 59])
def test_a_uid_is_its_own_name(uid: str) -> None:
    assert component(uid) == uid


HOSTILE = ["", "..", "../../etc/passwd", "1..2", ".1", "1.", "1" * 65, "9" * 300, "1\0", "1\n"]


@pytest.mark.parametrize("uid", [*HOSTILE, "1/2", "x-0", "１.２", "1.2 ", "-", "~", "\udcff"])
def test_anything_else_becomes_a_digest(uid: str) -> None:
    name = component(uid)
    assert name.startswith("x-")
    assert len(name) == 34
    assert set(name[2:]) <= set("0123456789abcdef")


@given(st.text(), st.text(), st.text())
def test_no_text_leaves_the_tree(study: str, series: str, instance: str) -> None:
    path = instance_path(study, series, instance)
    parts = path.split("/")
    assert len(parts) == 4
    assert all(part and part.strip(".") and "\0" not in part for part in parts)
    assert os.path.normpath(path) == path
    assert max(map(len, parts)) <= 68


def test_placing_links_replaces_and_repeats(tmp_path: Path) -> None:
    tree = StoreTree(tmp_path)
    relative = instance_path("1.2", "1.3", "1.4")
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"one")
    second.write_bytes(b"second")
    for _ in range(2):
        tree.place(str(first), relative)
        assert Path(tree.absolute(relative)).read_bytes() == b"one"
    tree.place(str(second), relative)
    assert tree.size(relative) == 6
    assert first.read_bytes() == b"one"
    Path(tree.absolute(relative) + storage.REPLACEMENT_SUFFIX).write_bytes(b"left by a crash")
    tree.place(str(first), relative)
    assert tree.size(relative) == 3
    assert os.listdir(tree.root / storage.series_path("1.2", "1.3")) == ["1.4.dcm"]
    assert (tree.root / relative).parent.stat().st_mode & 0o777 == 0o700
    tree.sync()


def test_placing_what_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        StoreTree(tmp_path).place(str(tmp_path / "none"), instance_path("1", "2", "3"))


def test_a_directory_removed_by_hand_is_made_again(tmp_path: Path) -> None:
    tree = StoreTree(tmp_path)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    tree.place(str(source), instance_path("1", "2", "3"))
    tree.remove(instance_path("1", "2", "3"))
    assert os.listdir(tree.root) == [instance_path("1", "2", "3")[:2]]
    tree.place(str(source), instance_path("1", "2", "3"))
    assert tree.size(instance_path("1", "2", "3")) == 1


def test_removing_keeps_what_others_need(tmp_path: Path) -> None:
    tree = StoreTree(tmp_path)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    tree.place(str(source), instance_path("1", "2", "3"))
    tree.place(str(source), instance_path("1", "9", "3"))
    tree.remove(instance_path("1", "2", "3"))
    tree.remove(instance_path("1", "2", "3"))
    assert tree.size(instance_path("1", "9", "3")) == 1
    assert not (tree.root / storage.series_path("1", "2")).exists()
    assert tree.size(instance_path("1", "2", "3")) is None
