"""The command line's frame: exit codes, messages, laziness; `scai config`; the reference."""

import errno
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import IO

import click
import pytest
from click.testing import CliRunner

from engine.config.loading import Config, parse_config
from engine.errors import OperatorError
from tools import cli
from tools.cli import COMMANDS, run_command_line, scai
from tools.development import reference
from tools.face.terminal import Exit, confirmed, printable
from tools.face.toml_text import settings_of, toml_text, toml_value

_root = Path(__file__).parent.parent.parent


def scai_process(
    *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SCAI_")}
    return subprocess.run(
        [sys.executable, "-m", "tools.cli", *arguments],
        cwd=_root,
        env=clean | (environment or {}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A configuration that holds."""
    file = tmp_path / "good.toml"
    file.write_text(
        'data_directory = "/srv/scai"\n'
        "[storage_scp]\n"
        "port = 11112\n"
        'calling_ae_titles = ["CT1", "MR1"]\n'
        "[tls]\n"
        'key_store = "keys.p12"\n'
        'key_store_password = "open sesame"\n'
        "[[remotes]]\n"
        'name = "archive"\n'
        'ae_title = "PACS"\n'
        'host = "pacs.example.org"\n'
        "port = 104\n"
        'abstract_syntaxes = ["Enhanced CT"]\n'
    )
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A configuration with two problems."""
    file = tmp_path / "bad.toml"
    file.write_text('durability = "none"\n[storage_scp]\nport = 0\n')
    return file


def test_help_names_every_command_and_imports_none() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\n"
            "from tools import cli\n"
            "code = cli.run_command_line(cli.scai, ['--help'], 'scai')\n"
            "loaded = [m for m in sys.modules if m.endswith('_command') or m == 'msgspec']\n"
            "sys.exit(f'imported: {loaded}' if loaded else code)\n",
        ],
        cwd=_root,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == Exit.OK, done.stderr
    for name, entry in COMMANDS.items():
        assert name in done.stdout
        assert entry.summary in done.stdout


def test_every_module_of_the_table_exists() -> None:
    for name, entry in COMMANDS.items():
        command = scai.get_command(click.Context(scai), name)
        assert isinstance(command, click.Command), entry.module


def test_wrong_command_lines_are_two() -> None:
    for arguments in (["nonsense"], ["config", "nonsense"], ["config", "check"], ["--nonsense"]):
        done = scai_process(*arguments)
        assert done.returncode == Exit.OPERATOR, arguments
        assert "Usage: scai" in done.stderr
        assert "Traceback" not in done.stderr


def test_version() -> None:
    done = scai_process("--version")
    assert done.returncode == Exit.OK
    assert done.stdout.startswith("scai ")


def test_check_says_what_a_good_file_amounts_to(good: Path) -> None:
    done = scai_process("config", "check", str(good))
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert done.stdout == (
        f"{good}: ok\n"
        "  SCP_AE:11112     all interfaces, 5 associations, 5 SOP classes, "
        "lets in only 2 calling titles\n"
        "  PrefetchAP:3840  all interfaces, 1 association, 5 SOP classes, lets in everyone\n"
        "  stats            http://127.0.0.1:9104\n"
        "  data             /srv/scai (durability sync)\n"
        "  remotes          archive\n"
    )


def test_check_warns_of_what_this_machine_has_not(good: Path) -> None:
    good.write_text(good.read_text() + "\n[prefetch_scp]\ncore = 4095\n[index]\ncore = 4094\n")
    done = scai_process("config", "check", str(good))
    assert done.returncode == Exit.OK, done.stderr
    first, second = done.stderr.splitlines()
    assert first.startswith("warning: prefetch_scp.core = 4095: no processor we may use here (")
    assert second.startswith("warning: index.core = 4094: ")


def test_a_terminal_that_lacks_characters_shows_their_numbers(good: Path) -> None:
    good.write_text(good.read_text().replace('name = "archive"', 'name = "保管庫"'))
    done = scai_process("config", "check", str(good), environment={"PYTHONIOENCODING": "latin-1"})
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    assert "\\u4fdd\\u7ba1\\u5eab" in done.stdout


def test_check_names_rules_and_folders_that_are_missing(good: Path) -> None:
    text = good.read_text().replace("[[remotes]]", '[[remotes]]\noutgoing_directory = "none"', 1)
    rules = '\n[[rules]]\nname = "all"\nto = ["archive"]\n'
    good.write_text(f'{text}{rules}\n[[prefetch]]\nname = "priors"\narchive = "archive"\n')
    done = scai_process("config", "check", str(good))
    assert done.returncode == Exit.OK, done.stderr
    assert done.stdout.endswith("  rules            all\n  prefetch rules   priors\n")
    assert done.stderr == (
        f"warning: {good.parent / 'none'}, watched for archive, is no directory yet\n"
    )
    (good.parent / "none").mkdir()
    assert scai_process("config", "check", str(good)).stderr == ""


def test_check_names_what_is_received_and_never_sent(good: Path) -> None:
    good.write_text(good.read_text().replace("abstract_syntaxes", "#"))
    done = scai_process("config", "check", str(good))
    assert done.returncode == Exit.OK, done.stderr
    assert done.stderr.startswith(
        "warning: received (storage_scp, prefetch_scp), but never sent: Enhanced CT Image Storage; "
    )


def test_check_tells_all_problems_without_a_traceback(bad: Path) -> None:
    for arguments, environment in (
        (["check", str(bad)], {}),
        (["check", "-c", str(bad)], {}),
        (["check"], {"SCAI_CONFIG": str(bad)}),
        (["show", "-c", str(bad)], {}),
    ):
        done = scai_process("config", *arguments, environment=environment)
        assert (done.returncode, done.stdout) == (Exit.OPERATOR, "")
        assert done.stderr == (
            f"scai: {bad}: 2 problems, nothing of it is used:\n"
            '  line 1: durability = \'none\': must be one of "sync", "os"\n'
            "  line 3: storage_scp.port = 0: must be a whole number from 1 to 65535\n"
        )


def test_a_file_that_is_not_there() -> None:
    done = scai_process("config", "check", "/nowhere/\x1b[31mred")
    assert done.returncode == Exit.OPERATOR
    assert done.stderr == "scai: /nowhere/\\x1b[31mred: cannot be read: No such file or directory\n"


def test_show_tells_origins_and_hides_passwords(good: Path) -> None:
    done = scai_process("config", "show", "-c", str(good), environment={"SCAI_DATA": "/elsewhere"})
    assert (done.returncode, done.stderr) == (Exit.OK, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[0] == f"# {good}"
    assert 'data_directory = "/srv/scai" # file, line 1' in lines
    assert "port = 11112 # file, line 3" in lines
    assert "port = 3840 # default" in lines
    assert "# key_store_password is set and not shown # file, line 7" in lines
    assert "sesame" not in done.stdout
    # What it shows is a configuration, and the same one but for the password.
    again = parse_config(done.stdout).config
    assert again.storage_scp.port == 11112
    assert again.remotes[0].name == "archive"

    done = scai_process("config", "show", environment={"SCAI_DATA": "/elsewhere"})
    assert 'data_directory = "/elsewhere"' in done.stdout
    assert "# environment" in done.stdout


def test_show_as_json(good: Path) -> None:
    done = scai_process("config", "show", "--json", "-c", str(good))
    assert done.returncode == Exit.OK
    assert "sesame" not in done.stdout
    shown = json.loads(done.stdout)
    assert shown["file"] == str(good)
    settings = {row.pop("setting"): row for row in shown["settings"]}
    assert settings["storage_scp.port"] == {
        "value": 11112,
        "hidden": False,
        "source": "file",
        "line": 3,
    }
    assert settings["tls.key_store_password"] == {
        "value": None,
        "hidden": True,
        "source": "file",
        "line": 7,
    }
    assert settings["storage_scp.contexts"]["value"][4] == {
        "abstract_syntax": "1.2.840.10008.1.1",
        "transfer_syntaxes": ["1.2.840.10008.1.2"],
    }
    assert settings["remotes[0].host"]["value"] == "pacs.example.org"


def test_defaults_written_and_read_again_are_the_defaults() -> None:
    text = toml_text(Config(), lambda path: f"of {path}")
    assert parse_config(text).config == parse_config("").config
    for setting in settings_of(Config()):
        assert f"# of {setting.path}" in text


def test_any_text_survives_toml() -> None:
    for value in ('"', "\\", "\n\t\x00\x7f\x85", "ü", "\u202e", "\U0001f4a9", "\\u0041"):
        assert tomllib.loads(f"a = {toml_value(value)}") == {"a": value}
        assert toml_value(value).isprintable()


@pytest.fixture
def outcomes() -> click.Group:
    """A group with one command for each way a command can end."""

    @click.group()
    def group() -> None:
        """Every way a command can end."""

    def bug() -> None:
        raise ZeroDivisionError("a bug")

    def operator() -> None:
        raise OperatorError("is wrong\x1b[2J", "file")

    def interrupt() -> None:
        raise KeyboardInterrupt

    def disk() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/\x1bindex")

    def foreign() -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/index")

    def unforeseen() -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def leave() -> None:
        click.get_current_context().exit(3)

    def stop() -> None:
        raise SystemExit(7)

    endings = {
        "nothing": lambda: None,
        "negative": lambda: Exit.NEGATIVE,
        "bug": bug,
        "operator": operator,
        "interrupt": interrupt,
        "disk": disk,
        "foreign": foreign,
        "unforeseen": unforeseen,
        "leave": leave,
        "stop": stop,
    }
    for name, ending in endings.items():
        group.command(name)(ending)
    return group


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("nothing", 0, ""),
        ("negative", 1, ""),
        ("operator", 2, "scai: file: is wrong\\x1b[2J\n"),
        ("disk", 2, "scai: /data/\\x1bindex: No space left on device\n"),
        ("foreign", 2, "scai: /data/index: Permission denied: use the service's user, or root\n"),
        ("unforeseen", 4, "Bad file descriptor\nscai: internal error"),
        ("leave", 3, ""),
        ("bug", 4, "ZeroDivisionError: a bug\nscai: internal error"),
        ("interrupt", 130, "scai: interrupted\n"),
    ],
)
def test_exit_codes(
    outcomes: click.Group, capsys: pytest.CaptureFixture[str], name: str, code: int, text: str
) -> None:
    assert run_command_line(outcomes, [name], "scai") == code
    error = capsys.readouterr().err
    assert text in error
    assert ("Traceback" in error) == (code == 4)


def test_an_exit_of_a_command_itself_passes(outcomes: click.Group) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command_line(outcomes, ["stop"], "scai")
    assert caught.value.code == 7


def show_into(output: IO[str], good: Path) -> subprocess.CompletedProcess[str]:
    """`scai config show` in a process of its own, its output there."""
    return subprocess.run(
        [sys.executable, "-m", "tools.cli", "config", "show", "-c", str(good)],
        cwd=_root,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_reader_that_has_seen_enough_is_no_error(good: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        done = show_into(output, good)
    assert (done.returncode, done.stderr) == (Exit.NEGATIVE, "")


def test_a_disk_that_is_full_of_output_is_told(good: Path) -> None:
    with open("/dev/full", "w") as output:
        done = show_into(output, good)
    assert (done.returncode, done.stderr) == (
        Exit.OPERATOR,
        "scai: output: No space left on device\n",
    )


def test_a_second_interrupt_does_not_disturb_the_end() -> None:
    code = (
        "import atexit, os, signal; from tools import cli; "
        "atexit.register(os.kill, os.getpid(), signal.SIGINT); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"],
        cwd=_root,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (Exit.OK, "")


def test_a_question_that_nobody_can_answer() -> None:
    runner = CliRunner()
    ask = click.Command("ask", callback=lambda: confirmed("Discard\x1b?"))
    said = runner.invoke(ask, input="y\n", standalone_mode=False)
    assert (said.return_value, said.output) == (True, "Discard\\x1b? [y/N]: y\n")
    said = runner.invoke(ask, input="", standalone_mode=False)
    assert isinstance(said.exception, OperatorError)
    assert "--yes" in str(said.exception)


def test_the_supervisors_entry_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    @click.command()
    @click.option("-c", "config_path")
    def command(config_path: str) -> int:
        seen.append(config_path)
        return Exit.NEGATIVE

    class Module:
        pass

    module = Module()
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setattr(cli.importlib, "import_module", {"tools.commands.run": module}.__getitem__)
    monkeypatch.setattr(sys, "argv", ["scai-supervisor", "-c", "x.toml"])
    with pytest.raises(SystemExit) as caught:
        cli.supervisor_main()
    assert (caught.value.code, seen) == (Exit.NEGATIVE, ["x.toml"])


def test_the_exit_codes_are_those_of_the_readme() -> None:
    text = (_root / "tools" / "README.md").read_text()
    for code in Exit:
        assert f"\n| {code.value} | " in text
    for module in [*COMMANDS.values()]:
        assert f"`{module.module.removeprefix('tools.').replace('.', '/')}.py`" in text


def test_printable() -> None:
    assert printable("a\n\x1b]0;x\x07\x9b\u202e ü") == "a\n\\x1b]0;x\\x07\\x9b\\u202e ü"


def test_the_reference_is_what_the_settings_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["reference", "--check"])
    assert reference.main() == Exit.OK, (
        "python -m tools.development.reference > docs/configuration.md"
    )
    text = reference.reference()
    for setting in settings_of(Config()):
        assert f"`{setting.name}`" in text
    # The sample in it is a configuration with the defaults.
    sample = text.rpartition("```toml\n")[2].partition("```")[0]
    assert parse_config(sample).config == parse_config("").config

    drifted = tmp_path / "configuration.md"
    drifted.write_text(text.replace("1 to 60", "1 to 61"))
    monkeypatch.setattr(reference, "reference_file", drifted)
    assert reference.main() == Exit.NEGATIVE
    assert (
        "python -m tools.development.reference > docs/configuration.md" in capsys.readouterr().err
    )
    monkeypatch.setattr(reference, "reference_file", tmp_path / "none")
    assert reference.main() == Exit.NEGATIVE
