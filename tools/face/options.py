"""What the commands share: the option that names the configuration file, and its reading."""

import os
from pathlib import Path
from typing import Final

import click

from engine.config.loading import LoadedConfig, load_config

config_variable: Final = "SCAI_CONFIG"

# The existence of the file is left to load_config(): its message is the same for every command.
config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    envvar=config_variable,
    metavar="FILE",
    help=f"Configuration file (${config_variable}); without one, the defaults.",
)


# Of a delivery or a prefetch; more than eight bytes none has.
number_type = click.IntRange(1, 2**64 - 1)
json_option = click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")


def load(config_path: Path | None) -> LoadedConfig:
    """The configuration a command works with; OperatorError if there is anything wrong with it."""
    return load_config(config_path, os.environ)
