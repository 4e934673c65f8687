"""Data that somebody else may change is not served: the start says what mends it, and it does."""

import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.config.loading import load_config, parse_config
from engine.errors import OperatorError
from tests.rigs.gateway import COMMAND, ROOT
from tests.rigs.local_users import needs_root, other_ids
from tools.commands.config import command as config_command
from workers.supervision.data import make_directories

_PARTS = [
    ".",
    "run",
    "journal",
    "journal/storage_scp",
    "incoming",
    "store",
    "index",
    "outbox",
    "set_aside",
]


def started(data: Path) -> None:
    """As far as the start looks at the data."""
    make_directories(parse_config(f'data_directory = "{data}"').config)


def checked(data: Path) -> str:
    """What `scai config check` has against it."""
    file = data.parent / "scai.toml"
    file.write_text(f'data_directory = "{data}"\n')
    done = CliRunner().invoke(config_command, ["check", str(file)], standalone_mode=False)
    return "" if done.exception is None else f"{done.exception}\n"


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
    # Whoever owns the whole is taken for the service's user: what a check cannot know.
    if (what, part) != ("owner", "."):
        assert f"  {caught.value}\n" in checked(data)
    command = caught.value.text.partition("Mend it: ")[2].partition(", or")[0]
    subprocess.run(["/bin/sh", "-c", command], check=True)
    started(data)
    assert checked(data) == ""


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


@pytest.mark.parametrize("above", [False, True], ids=["itself", "directory"])
@pytest.mark.parametrize("what", ["key store", "configuration"])
def test_what_is_trusted_and_could_be_exchanged(tmp_path: Path, what: str, above: bool) -> None:
    place = tmp_path / "etc"
    place.mkdir()
    store, file = tmp_path / "keys.p12", place / "scai.toml"
    if what == "key store":
        store, file = place / "keys.p12", tmp_path / "scai.toml"
    store.touch()
    file.write_text(f'data_directory = "{tmp_path}/data"\n[tls]\nkey_store = "{store}"\n')
    config = load_config(file, {}).config
    make_directories(config, file)
    (place if above else next(place.iterdir())).chmod(0o777 if above else 0o666)
    with pytest.raises(OperatorError, match="Mend it: chmod go-w"):
        make_directories(config, file)
    assert "Mend it: chmod go-w" in refused("config", "check", str(file))
    assert "Mend it: chmod go-w" in refused("run", "--check", "-c", str(file))


@needs_root
def test_a_check_by_root_asks_for_the_services_user(tmp_path: Path) -> None:
    data, (user, group) = tmp_path / "data", other_ids()
    (data / "journal").mkdir(parents=True)
    for path in (data, data / "journal"):
        os.chown(path, user, group)
    assert checked(data) == ""
    os.chown(data / "journal", 0, 0)
    assert f"{data}/journal: belongs to root, and the service runs as nobody. " in checked(data)


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
