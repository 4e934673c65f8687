"""Data that somebody else may change is not served: the start says what mends it, and it does."""

import os
import subprocess
from pathlib import Path

import pytest

from engine.config.loading import parse_config
from engine.errors import OperatorError
from tests.rigs.gateway import COMMAND, ROOT
from tests.rigs.local_users import needs_root, other_ids
from workers.supervision.data import make_directories

_PARTS = [".", "run", "journal", "journal/storage_scp", "incoming", "store", "index", "outbox"]


def started(data: Path) -> None:
    """As far as the start looks at the data."""
    make_directories(parse_config(f'data_directory = "{data}"').config)


@pytest.mark.parametrize("part", _PARTS)
@pytest.mark.parametrize("what", ["mode", "owner"])
@needs_root
def test_a_part_that_others_may_change(tmp_path: Path, part: str, what: str) -> None:
    data = tmp_path / "data"
    started(data)
    (data / part).mkdir(exist_ok=True)
    started(data)
    if what == "mode":
        (data / part).chmod(0o770)
    else:
        os.chown(data / part, *other_ids())
    with pytest.raises(OperatorError, match="Mend it: ") as caught:
        started(data)
    assert caught.value.where == os.path.normpath(data / part)
    command = caught.value.text.partition("Mend it: ")[2].partition(", or")[0]
    subprocess.run(["/bin/sh", "-c", command], check=True)
    started(data)


def test_a_key_store_that_others_may_change(tmp_path: Path) -> None:
    store = tmp_path / "keys.p12"
    store.touch()
    store.chmod(0o666)
    text = f'data_directory = "{tmp_path / "data"}"\n[tls]\nkey_store = "{store}"\n'
    config = parse_config(text).config
    with pytest.raises(OperatorError, match="chmod go-w") as caught:
        make_directories(config)
    assert caught.value.where == f"tls.key_store {store}"
    store.chmod(0o640)
    make_directories(config)


def refused(*words: str) -> str:
    """What a command says that ends because of the operator's fault."""
    done = subprocess.run(
        [*COMMAND, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    return done.stderr


def test_the_service_does_not_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o777)
    file = tmp_path / "scai.toml"
    file.write_text(f'data_directory = "{data}"\n')
    assert refused("run", "-c", str(file)) == (
        f"scai: {data}: can be changed by every user (mode 0777). Mend it: chmod go-w {data}\n"
    )
    assert not list(data.iterdir())


@pytest.mark.parametrize("what", ["theirs", "writable", "above"])
@needs_root
def test_keys_are_not_written_where_others_reach_them(tmp_path: Path, what: str) -> None:
    """`scai tls make-demo DIR`."""
    directory = tmp_path / "above" / "demo"
    directory.mkdir(parents=True)
    if what == "theirs":
        os.chown(directory, *other_ids())
    else:
        (directory if what == "writable" else directory.parent).chmod(0o777)
    assert "is not for private keys" in refused("tls", "make-demo", str(directory))
    assert not list(directory.iterdir())
