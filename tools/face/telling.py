"""What a command says of what it did: a line for people, or the same as a JSON object."""

import json

import click

from tools.face.terminal import printable


def tell(as_json: bool, text: str, **fields: object) -> None:
    """A sentence on standard output; in JSON its facts are fields, and it stands beside them.

    JSON is ASCII only: what could steer a terminal is escaped.
    """
    click.echo(json.dumps({**fields, "text": text}) if as_json else printable(text))
