"""`scai remotes`: the remote AEs of the configuration, and how sending to each of them goes.

Reads the configuration and the outbox, asks nobody: `scai echo` finds out who answers. What a peer
said when it refused is shown as it was recorded, escaped.
"""

import json
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

from engine.config.loading import Remote
from engine.index.environment import NoIndexError, open_index_reader
from engine.outbox.records import State
from engine.outbox.view import OutboxView
from tools.face.options import config_option, load
from tools.face.tables import Column, Row, print_table
from tools.face.terminal import Exit, moment

_HEADINGS: Final = (
    *("Name", "AE title", "Address", "TLS", "State", "Waiting", "Sending", "Failed"),
    *("Last success", "Last failure"),
)


@click.command(name="remotes")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each remote AE.")
def command(config_path: Path | None, as_json: bool) -> int:
    """List the remote AEs with their state and what waits for them.

    Exit code 1 when there are none.
    """
    config = load(config_path).config
    rows = _rows(config.remotes, config.data_path)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
    elif rows:
        print_table(map(Column, _HEADINGS), map(_table_row, rows))
    if not rows:
        click.echo("no remote AEs: add [[remotes]] to the configuration", err=True)
    return Exit.OK if rows else Exit.NEGATIVE


def _rows(remotes: tuple[Remote, ...], data_directory: Path) -> list[dict[str, Any]]:
    try:
        if not data_directory.exists():
            raise NoIndexError("the service has never run", str(data_directory))
        reader = open_index_reader(data_directory)
    except NoIndexError:
        return [_row(remote, None) for remote in remotes]
    with closing(reader), reader.view() as view:
        outbox = OutboxView.within(view)
        return [_row(remote, outbox) for remote in remotes]


def _row(remote: Remote, outbox: OutboxView | None) -> dict[str, Any]:
    """One remote AE. Without an outbox nothing was ever sent."""
    counts: dict[tuple[str, State], int] = {}
    succeeded = failed = None
    is_paused = False
    if outbox is not None:
        counts = outbox.counts()
        is_paused = remote.name in outbox.paused()
        succeeded = outbox.last_in_line(State.DELIVERED, remote.name)
        failures = [
            outbox.last_in_line(state, remote.name) for state in (State.FAILED, State.RETRYING)
        ]
        failed = max(filter(None, failures), key=lambda each: each.changed_ns, default=None)
    return {
        "name": remote.name,
        "ae_title": remote.ae_title,
        "host": remote.host,
        "port": remote.port,
        "tls": remote.tls,
        "associations": remote.associations,
        "transfer_syntaxes": list(remote.transfer_syntaxes),
        "abstract_syntaxes": list(remote.abstract_syntaxes),
        "character_sets": list(remote.character_sets),
        "original_attributes": remote.original_attributes,
        "outgoing_directory": remote.outgoing_directory,
        "state": _state(remote.paused, is_paused),
        **{state.name.lower(): counts.get((remote.name, state), 0) for state in State},
        "last_success": None if succeeded is None else moment(succeeded.changed_ns, "seconds"),
        "last_failure": None if failed is None else moment(failed.changed_ns, "seconds"),
        "last_failure_reason": "" if failed is None else failed.reason,
    }


def _state(by_file: bool, by_hand: bool) -> str:
    if by_file:
        return "paused by the configuration"
    return "paused" if by_hand else "open"


def _table_row(row: dict[str, Any]) -> Row:
    host = f"[{row['host']}]" if ":" in row["host"] else row["host"]
    failure = " ".join(filter(None, (row["last_failure"], row["last_failure_reason"])))
    return Row(
        (
            row["name"],
            row["ae_title"],
            f"{host}:{row['port']}",
            "yes" if row["tls"] else "no",
            row["state"] + (", held: " + str(row["held"]) if row["held"] else ""),
            row["waiting"] + row["retrying"],
            row["sending"],
            row["failed"],
            row["last_success"] or "never",
            failure or "none",
        )
    )
