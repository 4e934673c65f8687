"""Where a running service's data is, also when its configuration file was spoilt since."""

from pathlib import Path
from typing import Final

import click

from engine.config.loading import ConfigurationError, data_variable
from engine.errors import OperatorError
from tools.face.options import load
from tools.face.terminal import printable

# What is wrong with these leaves the data directory unknown.
_PLACING: Final = ("data_directory", f"${data_variable}")

data_option = click.option(
    "--data-directory",
    "data_directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The service's data, when there is no configuration file that says it.",
)


def data_of(config_path: Path | None, data_directory: Path | None, warns: bool = True) -> Path:
    """The directory that was named, or the configuration's.

    What runs has read the file before it was spoilt, so nothing else in it matters here; it is
    warned of.
    """
    if data_directory is not None:
        return data_directory.absolute()
    try:
        return load(config_path).config.data_path
    except ConfigurationError as error:
        if any(problem.path in _PLACING for problem in error.problems):
            raise
        if warns:
            text = f"warning: {error}\nwhat runs goes on with the settings it has"
            click.echo(printable(text), err=True)
        return error.config.data_path.absolute()
    except OperatorError as error:
        text = f"{error.text}; mend it, or name its data: --data-directory DIR"
        raise OperatorError(text, error.where) from error
