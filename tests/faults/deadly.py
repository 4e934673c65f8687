"""An instance, a job or a record that is the death of the process that has it in hand, planted into
real worker processes: in place of an input that kills a decoder nobody knows of yet.

`deadly()` gives what a service's environment needs: a `sitecustomize` that wraps one method in
every process of the service. Called with the given text in its arguments, or in what they say of an
arrival, the method does not return: the process is killed, hangs with the interpreter's lock held,
or has a fault of ours.
"""

import os
import re
import signal
from pathlib import Path
from typing import Any, Final, NoReturn

from tests.faults.wrapping import Method, wrap, wrapped_by

_TEXT, _END = "SCAI_TEST_DEADLY_TEXT", "SCAI_TEST_DEADLY_END"
ENDS: Final = ("is killed", "hangs", "has a fault")


def deadly(directory: Path, method: str, text: str, end: str) -> dict[str, str]:
    """The environment of a service where `module:Class.method` is deadly for what has this text."""
    assert end in ENDS
    return wrapped_by(__name__, directory, method) | {_TEXT: text, _END: end}


def plant() -> None:
    """In a process of the service, before anything else runs in it."""
    wrap(_deadly)


def _deadly(method: Method) -> Method:
    text = os.environ[_TEXT]

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        told = [getattr(one, "arrival", one) for one in (*arguments, *named.values())]
        if text in repr(told):
            _end()
        return method(self, *arguments, **named)

    return call


def _end() -> NoReturn:
    match os.environ[_END]:
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            re.match("(a+)+b", 64 * "a")
    raise RuntimeError("planted")
