"""`scai reload`: the running service reads its configuration again, and says what became of it.

The service takes the new configuration whole or not at all. Exit code 0: it is in use. 1: no
service runs on this data. 2: it was refused, and the old settings go on.
"""

from pathlib import Path

import click

from tools.face.options import config_option, json_option
from tools.face.service_data import data_of, data_option
from tools.face.telling import tell
from tools.face.terminal import Exit, printable
from workers.supervision.status import ask_reload


@click.command()
@config_option
@data_option
@json_option
def command(config_path: Path | None, data_directory: Path | None, as_json: bool) -> int:
    """Have the running service read its configuration again.

    Waits until the service has taken the new configuration up or refused it. A configuration is
    taken whole or not at all: after a refusal the service goes on with the settings it has.
    """
    data = data_of(config_path, data_directory, warns=False)  # the service says it itself
    answer = ask_reload(data)
    if answer is None:
        text = f"no service runs on {data}"
        if as_json:
            tell(True, text, outcome="no_service")
        else:
            click.echo(printable(text), err=True)
        return Exit.NEGATIVE
    if answer.refused:
        text = f"refused, the service goes on with the settings it has:\n{answer.refused}"
        if as_json:
            tell(True, text, outcome="refused", reason=answer.refused)
        else:
            click.echo(printable(text), err=True)
        return Exit.OPERATOR
    tell(as_json, answer.text, outcome="in_use")
    return Exit.OK
