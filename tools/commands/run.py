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
from tools.face.options import config_option, load
from tools.face.terminal import Exit, printable
from workers.frame.placement import Assignment, as_ranges
from workers.supervision.other_hands import presumed_user, refuse_other_hands
from workers.supervision.plan import seat_everybody, wanted_places
from workers.supervision.sockets import Listeners
from workers.supervision.supervisor import Supervisor


def version() -> str:
    try:
        return metadata.version("scai-dicom-engine")
    except metadata.PackageNotFoundError:
        return "source tree"


@click.command()
@config_option
@click.option("--check", is_flag=True, help="Only say whether it could start, and how.")
def command(config_path: Path | None, check: bool) -> int:
    """Run the gateway in the foreground until SIGTERM or Ctrl-C."""

    def read() -> LoadedConfig:
        return load(config_path)

    if check:
        loaded = read()
        refuse_other_hands(loaded.config, loaded.path, presumed_user(loaded.config))
        _check(loaded.config)
        return Exit.OK
    supervisor = Supervisor(
        read, os.environ, version(), ready=lambda line: click.echo(printable(f"scai {line}"))
    )
    return uvloop.run(supervisor.run())


def _check(config: Config) -> None:
    """Everything that can be tried without starting: ports, and the wished-for cores."""
    listeners = Listeners()
    listeners.open(wanted_places(config))
    listeners.close()
    for address, port in wanted_places(config):
        click.echo(f"port {port} of {address or 'all interfaces'} is free")
    for assignment in seat_everybody(config):
        click.echo(printable(_sentence(assignment)))
    click.echo(f"data would be kept in {printable(config.data_directory)}")


def _sentence(assignment: Assignment) -> str:
    return f"{assignment.name}: cores {as_ranges(assignment.cores)} ({assignment.reason})"
