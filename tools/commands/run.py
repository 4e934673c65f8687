"""`scai run`: the service in the foreground, its log as JSON lines on standard error.

One line on standard output says when it is ready and where it listens. SIGTERM or Ctrl-C drains and
ends it, a second one ends it at once, SIGHUP reads the configuration again.
"""

import os
from importlib import metadata
from pathlib import Path

import click
import uvloop

from engine.config.loading import Config, LoadedConfig
from engine.errors import OperatorError
from tools.face.options import config_option, load
from tools.face.telling import tell
from tools.face.terminal import Exit, printable
from workers.frame.placement import Assignment, as_ranges
from workers.supervision.other_hands import presumed_user, refuse_other_hands
from workers.supervision.plan import seat_everybody, wanted_places
from workers.supervision.sockets import Listeners
from workers.supervision.status import ask_status
from workers.supervision.supervisor import Supervisor


def version() -> str:
    try:
        return metadata.version("scai-dicom-engine")
    except metadata.PackageNotFoundError:
        return "source tree"


@click.command()
@config_option
@click.option("--check", is_flag=True, help="Only say whether it could start, and how.")
@click.option("--json", "as_json", is_flag=True, help="With --check: a JSON object a line.")
def command(config_path: Path | None, check: bool, as_json: bool) -> int:
    """Run the gateway in the foreground until SIGTERM or Ctrl-C."""

    def read() -> LoadedConfig:
        return load(config_path)

    if check:
        loaded = read()
        refuse_other_hands(loaded.config, loaded.path, presumed_user(loaded.config))
        _check(loaded.config, as_json)
        return Exit.OK
    if as_json:
        raise click.UsageError("--json goes with --check: the log of the service is JSON anyway")
    supervisor = Supervisor(
        read, os.environ, version(), ready=lambda line: click.echo(printable(f"scai {line}"))
    )
    return uvloop.run(supervisor.run())


def _check(config: Config, as_json: bool) -> None:
    """Everything that can be tried without starting: ports, and the wished-for cores.

    Beside its own running service its ports are in use, and by whom they should be."""
    wanted = wanted_places(config)
    held = _held_by_own_service(config)
    listeners = Listeners()
    listeners.open({place: name for place, name in wanted.items() if place not in held})
    listeners.close()
    for address, port in wanted:
        where = f"port {port} of {address or 'all interfaces'}"
        is_own = (address, port) in held
        state = "is this service's own, which runs" if is_own else "is free"
        tell(as_json, f"{where} {state}", address=address, port=port, own=is_own)
    for assignment in seat_everybody(config):
        cores = as_ranges(assignment.cores)
        tell(as_json, _sentence(assignment), process=assignment.name, cores=cores)
    directory = config.data_directory
    tell(as_json, f"data would be kept in {directory}", data_directory=str(directory))


def _held_by_own_service(config: Config) -> set[tuple[str, int]]:
    """The places that the service on this data listens on; none where none runs."""
    try:
        running = ask_status(config.data_path)
    except OperatorError as error:  # another user's: whoever asks may start one all the same
        click.echo(printable(f"warning: {error}"), err=True)
        return set()
    return set() if running is None else set(running.places)


def _sentence(assignment: Assignment) -> str:
    return f"{assignment.name}: cores {as_ranges(assignment.cores)} ({assignment.reason})"
