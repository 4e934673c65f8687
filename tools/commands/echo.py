"""`scai echo`: verifies remote AEs, one attempt each, and tells where it fails.

A name without an address, a port where nobody listens, silence, TLS, a rejection or abort in
PS3.8's words, a status: each is told apart, because each is another person's to mend. Works while
the service runs and when it does not.
"""

import json
from pathlib import Path
from typing import Final

import click
import msgspec

from engine import limits
from engine.config.loading import Config, Remote
from engine.dictionary.suggestion import suggestion
from engine.errors import OperatorError
from engine.settings.timeouts import Timeouts
from engine.settings.values import check_ae_title, check_host
from tools.face.options import config_option, load
from tools.face.tables import Column, Row, print_table
from tools.face.terminal import Exit
from workers.scu.association import Peer
from workers.scu.echo import Echo, echo_each

_HEADINGS: Final = ("remote", "AE title", "address", "outcome", "round trip", "context")


@click.command()
@config_option
@click.option("--all", "every", is_flag=True, help="Every remote AE of the configuration.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(limits.application_timeout_s_min, limits.application_timeout_s_max),
    metavar="SECONDS",
    help="For each step; without it, those of the configuration.",
)
@click.option("--tls", is_flag=True, help="Speak TLS to what is given as AE@HOST:PORT.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON each instead of a table.")
@click.argument("names", nargs=-1, metavar="[NAME | AE@HOST:PORT]...")
def command(
    config_path: Path | None,
    every: bool,
    timeout_s: int | None,
    tls: bool,
    as_json: bool,
    names: tuple[str, ...],
) -> int:
    """Verify remote AEs: association, C-ECHO, release; one attempt, no retry.

    Exit code 1 unless all of them answered with success.
    """
    config = load(config_path).config
    remotes = _remotes(config, every, names, tls)
    given = None if timeout_s is None else Timeouts.each(timeout_s)
    results = []
    asked = [
        (peer, given or remote.timeouts(config.timeouts))
        for peer, remote in zip(_peers(config, remotes), remotes, strict=True)
    ]
    for result in echo_each(asked, config.calling_ae_title):
        results.append(result)
        if as_json:
            fields = {**msgspec.to_builtins(result), "succeeded": result.succeeded}
            click.echo(json.dumps(fields))  # ASCII only: what could steer a terminal is escaped
    if not as_json:
        print_table(map(Column, _HEADINGS), map(_table_row, results))
    return Exit.OK if all(result.succeeded for result in results) else Exit.NEGATIVE


def _remotes(config: Config, every: bool, names: tuple[str, ...], tls: bool) -> list[Remote]:
    by_name = {remote.name: remote for remote in config.remotes}
    if every:
        if names:
            raise OperatorError("--all and names exclude each other")
        if not by_name:
            raise OperatorError("the configuration has no remote AE: no [[remotes]] table")
        return list(config.remotes)
    if not names:
        raise OperatorError("name a remote AE, give AE@HOST:PORT, or say --all")
    return [by_name.get(name) or _ad_hoc(name, by_name, tls) for name in names]


def _ad_hoc(text: str, by_name: dict[str, Remote], tls: bool) -> Remote:
    """A remote AE that is not configured: AE@HOST:PORT."""
    if "@" not in text:
        raise OperatorError(
            f"{text!r} is no remote AE of the configuration{suggestion(text, by_name)}; one that "
            "is not there is given as AE@HOST:PORT"
        )
    title, _, address = text.rpartition("@")
    host, colon, port = address.rpartition(":")
    try:
        if not colon or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError("needs a port of 1 to 65535 behind the host, as in PACS@10.0.0.1:104")
        return Remote(
            name=text,
            ae_title=check_ae_title(title),
            host=check_host(host.removeprefix("[").removesuffix("]")),
            port=int(port),
            tls=tls,
        )
    except ValueError as problem:
        raise OperatorError(f"{text!r}: {problem}") from None


def _peers(config: Config, remotes: list[Remote]) -> list[Peer]:
    context = None
    if any(remote.tls for remote in remotes):
        from engine.tls.client import client_context

        context = client_context(config)
    return [
        Peer(
            remote.name,
            remote.ae_title,
            remote.host,
            remote.port,
            context if remote.tls else None,
        )
        for remote in remotes
    ]


def _table_row(result: Echo) -> Row:
    outcome = result.text
    if result.status is None:
        outcome = f"{result.outcome.replace('_', ' ')}: {outcome}"
    round_trip = "-"
    if result.round_trip_s is not None:
        round_trip = f"{result.round_trip_s * 1000:.1f} ms"
    host = f"[{result.host}]" if ":" in result.host else result.host
    address = f"{host}:{result.port}" + (" (TLS)" if result.tls else "")
    cells = (result.name, result.ae_title, address, outcome, round_trip, result.context or "-")
    return Row(cells, bold=not result.succeeded)
