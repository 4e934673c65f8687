"""The command line `scai`: names the commands, turns every outcome into an exit code.

A command's module is imported when the command is called, so that `scai --help` is quick; it has a
click command named `command`, which returns None or its exit code. The exit codes are documented
in tools/README.md.
"""

import errno
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

import click

from engine.errors import OperatorError
from engine.index.damage import INDEX_CUT, INDEX_FILE
from tools.face.terminal import Exit, printable

_stdout: Final = 1  # file descriptors, as every process has them
_stderr: Final = 2
_REFUSALS: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


class Entry(NamedTuple):
    """A command: its module and its line in `scai --help`."""

    module: str
    summary: str


COMMANDS: Final[dict[str, Entry]] = {
    "run": Entry("tools.commands.run", "Run the gateway in the foreground."),
    "reload": Entry("tools.commands.reload", "Have the service read its configuration again."),
    "status": Entry("tools.commands.status", "Show processes, associations, rates and disk."),
    "find": Entry("tools.commands.find", "Find studies, series and instances."),
    "echo": Entry("tools.commands.echo", "Verify remote AEs (C-ECHO), and tell what fails."),
    "edit": Entry("tools.commands.edit", "Correct patient, study and series information."),
    "remove": Entry("tools.commands.remove", "Remove studies, series or instances for good."),
    "aside": Entry("tools.commands.aside", "List what was set aside; take it back, discard it."),
    "keep": Entry("tools.commands.keep", "Keep studies, whatever the retention says."),
    "retention": Entry("tools.commands.retention", "Show, or remove, what goes for want of room."),
    "verify": Entry("tools.commands.verify", "Check that files and index agree, and repair them."),
    "backup": Entry("tools.commands.backup", "Make a backup while the service runs, or check one."),
    "restore": Entry("tools.commands.restore", "Bring a backup back into a new data directory."),
    "rebuild": Entry("tools.commands.rebuild", "Make the index anew from the stored files."),
    "rules": Entry("tools.commands.rules", "List the routing rules, or try them on a file."),
    "send": Entry("tools.commands.send", "Send files, or what is stored, to remote AEs."),
    "export": Entry("tools.commands.export", "Copy what is stored to a directory or a ZIP file."),
    "queue": Entry("tools.commands.queue", "List what is to be sent; retry, hold, discard, pause."),
    "prefetch": Entry("tools.commands.prefetch", "List what prior studies were asked for."),
    "hl7": Entry("tools.commands.hl7", "Try an HL7 message, list what is kept for later."),
    "remotes": Entry("tools.commands.remotes", "List the remote AEs and what waits for them."),
    "tls": Entry("tools.commands.tls", "Show what TLS is made of, or make a set to try."),
    "config": Entry("tools.commands.config", "Check and show the configuration."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by COMMANDS and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: the most used first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, its module imported."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = importlib.import_module(entry.module).command
        assert isinstance(command, click.Command), entry.module
        _tell_of_a_damaged_index()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def _tell_of_a_damaged_index() -> None:
    """LMDB maps the index and believes its pages: where the file is cut short, damaged, or cannot
    be read, the answer is a signal, which would end us without a word."""
    from native import _core

    cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar may have hidden it
    _core.tell_index_crashes(INDEX_FILE, f"{cursor}scai: {INDEX_CUT}\n", Exit.OPERATOR)


def _print_version(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    """The installed version; a source tree that was never installed has none."""
    if not wanted or ctx.resilient_parsing:
        return
    from importlib import metadata

    try:
        version = metadata.version("scai-dicom-engine")
    except metadata.PackageNotFoundError:
        version = "(not installed)"
    click.echo(f"scai {version}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def scai() -> None:
    """SCAI, a DICOM gateway: receives, stores durably and indexes medical images.

    Exit codes: 0 done, 1 the answer is no (nothing found, differences), 2 wrong configuration or
    command line, 4 internal error.
    """


def run_command_line(command: click.Command, arguments: Sequence[str], name: str) -> int:
    """Run a command to its exit code. The process boundary: nothing passes it but SystemExit."""
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may have characters that it has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        result = command.main(list(arguments), prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except OperatorError as error:
        click.echo(printable(f"{name}: {error}"), err=True)
        return Exit.OPERATOR
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"{name}: interrupted", err=True)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Who read our output has seen enough (`scai find | head`). What is still buffered has
        # nowhere to go; without this the interpreter would complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.NEGATIVE
    except Exception as error:  # noqa: BLE001 - the process boundary
        if isinstance(error, OSError) and error.errno in _REFUSALS:
            return _refused(error, name)
        if (words := _of_the_index(error)) is not None:
            click.echo(printable(f"{name}: {words}"), err=True)
            return Exit.OPERATOR
        traceback.print_exc()
        click.echo(f"{name}: internal error; the lines above belong into a report", err=True)
        return Exit.INTERNAL
    return int(result) if isinstance(result, int) else Exit.OK


def _of_the_index(error: Exception) -> str | None:
    """What is said of a fault that LMDB has found itself; None: it is none of LMDB's. It is not
    imported for that: it takes longer than `scai --help`."""
    lmdb = sys.modules.get("lmdb")
    if lmdb is None or not isinstance(error, lmdb.Error):
        return None
    if isinstance(error, lmdb.DiskError | lmdb.MapFullError | lmdb.ReadersFullError):
        return f"the index cannot be used now: {error}"
    return f"{INDEX_CUT}. Found: {error}"


def _open_what_is_closed() -> None:
    """Standard output or error that was closed (`scai find >&-`): nobody wants to hear of it. Their
    numbers are taken, so that no file of ours gets them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _stderr:
        pass
    os.close(descriptor)
    for name, number in (("stdout", _stdout), ("stderr", _stderr)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _refused(error: OSError, name: str) -> int:
    """The file system's no, wherever it came from: nothing is wrong with the command."""
    where = "output" if error.filename is None else str(error.filename)
    hint = ": use the service's user, or root" if isinstance(error, PermissionError) else ""
    click.echo(printable(f"{name}: {where}: {error.strerror}{hint}"), err=True)
    if error.filename is None:  # most likely our output: its rest has nowhere to go either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.OPERATOR


def main() -> NoReturn:
    """The command `scai`."""
    code = run_command_line(scai, sys.argv[1:], "scai")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends already
    sys.exit(code)


def supervisor_main() -> NoReturn:
    """The command `scai-supervisor`, for service units: `scai run`."""
    run = importlib.import_module(COMMANDS["run"].module).command
    sys.exit(run_command_line(run, sys.argv[1:], "scai-supervisor"))


if __name__ == "__main__":
    main()
