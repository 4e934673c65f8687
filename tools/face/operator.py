"""Who gives an order, for what is kept of it."""

import getpass
import os
import pwd

import click

from engine.errors import OperatorError
from tools.face.terminal import is_text

who_option = click.option(
    "--who", metavar="NAME", help="Who does it; without it, the user logged in."
)


def operator(given: str | None) -> str:
    """The name given, or the user's; behind sudo, the user who called it, and as whom."""
    if given is not None:
        if not is_text(given):
            raise OperatorError("is no UTF-8 text", "--who")
        return given
    caller = os.environ.get("SUDO_USER", "")
    try:
        user = getpass.getuser()
    except (KeyError, OSError) as error:
        raise OperatorError("nobody is known to be logged in: say --who NAME") from error
    return f"{caller} ({user})" if caller and caller != user else user


def user() -> dict[str, str]:
    """Whom the kernel knows this process by, and who called sudo, whatever name was given."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    caller = os.environ.get("SUDO_USER", "")
    return {"user": name} | ({"sudo_user": caller} if caller else {})
