"""Reading the configuration: files, lines, origins, the data directory; ports that are taken."""

import errno
import os
import re
from pathlib import Path, PurePath

import pytest

from engine import limits
from engine.config.lines import find_lines
from engine.config.loading import ConfigurationError, LoadedConfig, load_config, parse_config
from engine.errors import OperatorError
from workers.supervision.binding import bind_problem


def test_lines_of_everything() -> None:
    text = (
        "# remark\n"
        "a = 1\n"
        "b = [\n"
        "  1,\n"
        "  # ] no end\n"
        "  2,\n"
        "] # end\n"
        's = """\n'
        "[not a table]\n"
        "x = 1\n"
        '"""\n'
        "\n"
        "[t]\n"
        "c.d = { e = 1, f = [ 2 ] }\n"
        "[[r]]\n"
        "n = 1\n"
        "[[r]]\n"
        "n = 2\n"
        "[r.sub]\n"
        'm = "]"\n'
    )
    expected = {
        ("a",): 2,
        ("b",): 3,
        ("b", 1): 3,
        ("s",): 8,
        ("t",): 13,
        ("t", "c", "d", "e"): 14,
        ("t", "c", "d", "f", 0): 14,
        ("r", 0, "n"): 16,
        ("r", 1): 17,
        ("r", 1, "n"): 18,
        ("r", 1, "sub", "m"): 20,
    }
    for variant in (text, text.replace("\n", "\r\n")):
        lines = find_lines(variant)
        assert {path: lines.get(path) for path in expected} == expected
        assert ("not a table",) not in lines


def test_a_long_list_of_hosts_is_read_quickly() -> None:
    hosts = "".join(f'  "10.{n // 250}.{n % 250}.1",\n' for n in range(10_000))
    text = f"[storage_scp]\nallowed_hosts = [\n{hosts}]\nport = 0\n"
    with pytest.raises(ConfigurationError) as caught:
        parse_config(text)
    assert [problem.line for problem in caught.value.problems] == [10_004]


def test_origins(tmp_path: Path) -> None:
    file = tmp_path / "scai.toml"
    file.write_text(
        '[storage_scp]\nport = 11112\n[[remotes]]\nname = "a"\nae_title = "A"\n'
        'host = "h"\nport = 1\n'
    )
    loaded = load_config(file, {"SCAI_DATA": "/srv/data"})
    assert str(loaded.origin("storage_scp.port")) == "file, line 2"
    assert str(loaded.origin("storage_scp.ae_title")) == "default"
    assert str(loaded.origin("remotes[0].port")) == "file, line 7"
    assert str(loaded.origin("remotes[0].tls")) == "default"
    assert str(loaded.origin("data_directory")) == "environment"
    assert str(loaded.origin("prefetch_scp.port")) == "default"
    assert loaded.path == file


def test_the_data_directory_is_the_files_then_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def data(loaded: LoadedConfig) -> tuple[Path, str]:
        return loaded.config.data_path, loaded.origin("data_directory").source

    monkeypatch.chdir(tmp_path)
    assert data(load_config(None, {})) == (tmp_path / "data", "default")
    assert data(load_config(None, {"SCAI_DATA": ""})) == (tmp_path / "data", "default")
    assert data(load_config(None, {"SCAI_DATA": "d"})) == (tmp_path / "d", "environment")
    (tmp_path / "etc").mkdir()
    file = Path("etc") / "scai.toml"
    file.write_text('data_directory = "here"\n')
    given = {"SCAI_DATA": "/there"}
    assert data(load_config(file, given)) == (tmp_path / "etc" / "here", "file")
    file.write_text("")
    assert data(load_config(file, given)) == (Path("/there"), "environment")
    assert data(load_config(file, {})) == (tmp_path / "etc" / "data", "default")
    with pytest.raises(ConfigurationError, match=r"\$SCAI_DATA = '~/x': .*not expanded"):
        load_config(None, {"SCAI_DATA": "~/x"})


def test_parsing_is_pure() -> None:
    loaded = parse_config('data_directory = "x"', base_directory=PurePath("/nowhere"))
    assert loaded.config.data_directory == "/nowhere/x"


def test_text_that_is_no_toml_is_told_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "scai.toml"
    for content, expected in (
        (b"a = 1\nb = \n", "line 2"),
        (b"a = 1\na = 2\n", "line 2"),
        (b"[storage_scp]\n[storage_scp]\n", "line 2"),
        (b"a = 1\n\xff\n", "line 2: is not UTF-8"),
        (b"\x7fELF", "line 1"),
    ):
        file.write_bytes(content)
        with pytest.raises(OperatorError, match=re.escape(str(file))) as caught:
            load_config(file, {})
        assert expected in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="No such file"):
        load_config(tmp_path / "none", {})
    with pytest.raises(OperatorError, match="Is a directory"):
        load_config(tmp_path, {})
    large = tmp_path / "large"
    large.write_bytes(b"#" * (limits.configuration_bytes_max + 1))
    with pytest.raises(OperatorError, match="is longer than"):
        load_config(large, {})
    large.write_bytes(b"\xef\xbb\xbfdurability = 'os'\r\n")
    assert load_config(large, {}).config.durability == "os"


_bind = [
    (
        errno.EACCES,
        [
            "another port",
            "ip_unprivileged_port_start=104",
            "CAP_NET_BIND_SERVICE",
            "AmbientCapabilities",
            "setcap",
        ],
    ),
    (errno.EPERM, ["ip_unprivileged_port_start=104"]),
    (errno.EADDRINUSE, ["in use", "ss -ltnp 'sport = :104'"]),
    (errno.EADDRNOTAVAIL, ["does not have that address", "`address`"]),
    (errno.EAFNOSUPPORT, ["IPv6"]),
    (errno.ENOBUFS, ["No buffer space"]),
]


@pytest.mark.parametrize(("number", "expected"), _bind)
def test_a_port_that_cannot_be_bound(number: int, expected: list[str]) -> None:
    error = bind_problem("SCP_AE:104", "", 104, OSError(number, os.strerror(number)))
    assert str(error).startswith("SCP_AE:104: port 104 of all interfaces: ")
    for words in expected:
        assert words in str(error)
    assert "port 7 of ::1" in str(bind_problem("stats", "::1", 7, OSError(number, "x")))
