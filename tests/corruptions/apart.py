"""Work in a process of its own, which may die of it: what it gave, or how it ended."""

import json
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any, Final

from engine.index.damage import INDEX_FILE
from native import _core

INDEX_CRASHED: Final = 99  # LMDB fell over the pages of the index, and said so
_seconds_max: Final = 60  # far beyond what any takes: an endless loop


def apart(work: Callable[[], Any]) -> dict[str, Any]:
    """{"result": ..}, {"fault": trace}, {"signal": number}, or {"index": True} where it ended as
    the product's processes end whose index LMDB falls over."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _live(work, writing)
    os.close(writing)
    with os.fdopen(reading) as file:
        content = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == INDEX_CRASHED:
        return {"index": True}
    if os.WIFSIGNALED(status) or not content:
        return {"signal": os.WTERMSIG(status)}
    return dict(json.loads(content))


def _live(work: Callable[[], Any], writing: int) -> None:
    signal.alarm(_seconds_max)
    try:
        _core.tell_index_crashes(INDEX_FILE, "", INDEX_CRASHED)
        said = {"result": work()}
    except BaseException:  # noqa: BLE001  # the outermost frame of the process
        said = {"fault": traceback.format_exc(limit=-4)}
    with os.fdopen(writing, "w") as file:
        json.dump(said, file, default=sorted)
    os._exit(0)
