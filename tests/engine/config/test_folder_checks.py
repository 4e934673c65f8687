"""Watched folders that would take what is not meant to be sent are refused."""

import sys
from pathlib import Path

import pytest

from engine.config.loading import ConfigurationError, load_config, parse_config

_REMOTE = '[[remotes]]\nname = "{name}"\nae_title = "A"\nhost = "h"\nport = 104\n'


def text_of(data: str, *folders: str) -> str:
    """A configuration with one remote AE for each folder."""
    remotes = [
        _REMOTE.format(name=f"r{number}") + f'outgoing_directory = "{folder}"\n'
        for number, folder in enumerate(folders)
    ]
    return f'data_directory = "{data}"\n' + "".join(remotes)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("/srv/scai", "overlaps with data_directory"),
        ("/srv/scai/store", "overlaps with data_directory"),
        ("/srv/scai/", "overlaps with data_directory"),
        ("/srv/out/../scai/x", "overlaps with data_directory"),
        ("/srv", "overlaps with data_directory"),
        ("/", "overlaps with data_directory"),
        ("/etc", "a directory of the system's"),
        ("/usr/share/out", "a directory of the system's"),
        ("/tmp", "a directory of the system's"),
        ("/var/lib", "a directory of the system's"),
        ("/proc/1/cwd", "a directory of the system's"),
    ],
)
def test_a_folder_that_is_somebody_elses_is_refused(folder: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_config(text_of("/srv/scai", folder))
    (problem,) = caught.value.problems
    assert problem.path == "remotes[0].outgoing_directory"
    assert words in problem.text
    assert problem.line == 7


@pytest.mark.parametrize("folder", ["/srv/scai-out", "/tmp/out", "/var/spool/out", "/home/a/out"])
def test_a_place_of_its_own_is_good(folder: str) -> None:
    assert parse_config(text_of("/srv/scai", folder))


@pytest.mark.parametrize("other", ["/srv/out/pacs/in", "/srv/out", "/srv/x/../out/pacs"])
def test_folders_do_not_overlap(other: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_config(text_of("/data", "/srv/out/pacs", other))
    (problem,) = caught.value.problems
    assert problem.path == "remotes[1].outgoing_directory"
    assert "overlaps with /srv/out/pacs, the folder of another" in problem.text
    assert parse_config(text_of("/data", "/srv/out", "/srv/outer"))


def test_links_are_seen_through(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "way").symlink_to("data")
    (tmp_path / "data" / "store").symlink_to(tmp_path / "elsewhere")
    file = tmp_path / "scai.toml"
    for folder in ("way", "elsewhere/deep", "data/store"):
        file.write_text(text_of("data", folder))
        with pytest.raises(ConfigurationError, match="overlaps with data_directory"):
            load_config(file, {})
    file.write_text(text_of("data", "out"))
    assert load_config(file, {})


def test_what_is_the_services_own_is_refused(tmp_path: Path) -> None:
    """Its configuration, key stores and programs would be taken for what is to be sent."""
    directory = tmp_path / "etc"
    (directory / "keys").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    file = directory / "scai.toml"
    tls = f'[tls]\ntrust_store = "{tmp_path}/elsewhere/trust.pem"\nkey_store = "keys/own.p12"\n'
    refused = (".", str(tmp_path), "keys", "../elsewhere", sys.prefix, f"{sys.prefix}/lib")
    for folder in (*refused, "out", "keys/out", "../elsewhere/out"):
        file.write_text(text_of(str(tmp_path / "data"), folder) + tls)
        if folder not in refused:
            assert load_config(file, {})
            continue
        with pytest.raises(ConfigurationError) as caught:
            load_config(file, {})
        (problem,) = caught.value.problems
        words = "files of the service's own" if folder != str(tmp_path) else "data_directory"
        assert words in problem.text, folder
