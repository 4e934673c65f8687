"""What `scai send` sends: files looked at and copied, stored instances looked up, all queued."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from engine.config.loading import Remote
from engine.errors import LocalError
from engine.index.environment import View
from engine.index.rows import present
from engine.limits import outbox_portion_max
from engine.outbox.files import (
    Examined,
    copy_in,
    examine,
    fresh_name,
    make_outbox,
    sync_copies,
)
from engine.outbox.records import NewDelivery
from engine.outbox.spool import remove_finished, spooled_path
from engine.outbox.writer import OutboxWriter
from engine.outgoing.outgoing import CannotSend, proposals, taken_by
from engine.settings.send import USER
from tools.commands.selection import Selection, stored

_DIRECTORY_FILE: Final = "DICOMDIR"


class Problem(NamedTuple):
    """What will not be sent, and why."""

    what: str
    reason: str


class Wanted(NamedTuple):
    """What the command line asks for."""

    remotes: Sequence[Remote]
    paths: Sequence[Path]
    stored: Selection


class Queueing:
    """Queues what is wanted. `numbers` and `problems` grow as it goes on; `step` is called with
    (done, all) files."""

    def __init__(
        self, writer: OutboxWriter, data_directory: Path, step: Callable[[int, int], None]
    ) -> None:
        self.numbers: list[int] = []
        self.problems: list[Problem] = []
        self._writer = writer
        self._data_directory = data_directory
        self._step = step

    def run(self, wanted: Wanted) -> None:
        """All of it. OSError: a copy could not be made; what came before is queued."""
        self._queue_files(wanted)
        deliveries = [*self._stored(wanted)]
        for start in range(0, len(deliveries), outbox_portion_max):
            self._commit(deliveries[start : start + outbox_portion_max])

    # --- files -----------------------------------------------------------------------------------
    def _queue_files(self, wanted: Wanted) -> None:
        paths = list(_walk(wanted.paths, self.problems))
        good = [path for path in paths if self._look(wanted, path, path) is not None]
        if good:
            make_outbox(self._data_directory)
        for start in range(0, len(good), outbox_portion_max):
            self._queue_portion(wanted, good[start : start + outbox_portion_max], start, len(good))

    def _queue_portion(
        self, wanted: Wanted, portion: Sequence[Path], before: int, total: int
    ) -> None:
        """One transaction; on any error nothing of it is left."""
        names: list[str] = []
        refused: list[str] = []
        deliveries: list[NewDelivery] = []
        try:
            for path in portion:
                name = fresh_name()
                copy_in(path, self._data_directory, name)
                names.append(name)
                # What is queued is what was copied: the file may have changed since it was seen.
                copy = spooled_path(self._data_directory, name)
                examined = self._look(wanted, copy, path)
                if examined is None:
                    refused.append(name)
                else:
                    deliveries += [
                        examined.delivery(remote.name, USER, name) for remote in wanted.remotes
                    ]
                self._step(before + len(names), total)
            sync_copies(self._data_directory)
            self._commit(deliveries)
            remove_finished(self._writer, self._data_directory, refused)
        except BaseException:
            remove_finished(self._writer, self._data_directory, names)
            raise

    def _look(self, wanted: Wanted, path: Path, named: Path) -> Examined | None:
        """None: it cannot be sent, which is a problem of the file that was named."""
        try:
            return examine(path, [taken_by(remote) for remote in wanted.remotes])
        except CannotSend as error:
            self.problems.append(Problem(str(named), error.reason))
        except LocalError as error:
            self.problems.append(Problem(str(named), error.comment))
        return None

    # --- stored instances ------------------------------------------------------------------------
    def _stored(self, wanted: Wanted) -> Iterator[NewDelivery]:
        """OperatorError: a UID that nothing is stored under."""
        with self._writer.view() as view:
            found = [(_named(view, series), one) for series, one in stored(view, wanted.stored)]
        for (study_uid, series_uid, patient), instance in found:
            for remote in wanted.remotes:
                try:
                    proposals(
                        instance.sop_class_uid,
                        instance.transfer_syntax_uid,
                        taken_by(remote),
                    )
                except CannotSend as error:
                    what = f"{instance.sop_instance_uid} to {remote.name}"
                    self.problems.append(Problem(what, error.reason))
                    continue
                yield NewDelivery(
                    remote.name,
                    instance.sop_instance_uid,
                    instance.sop_class_uid,
                    study_uid,
                    series_uid,
                    instance.transfer_syntax_uid,
                    instance.file_bytes,
                    USER,
                    patient=patient,
                )

    def _commit(self, deliveries: Sequence[NewDelivery]) -> None:
        now_ns = time.time_ns()
        numbers = self._writer.commit(
            lambda outbox: [outbox.enqueue(one, now_ns) for one in deliveries]
        )
        self._writer.sync()
        self.numbers += numbers


def _walk(paths: Sequence[Path], problems: list[Problem]) -> Iterator[Path]:
    """The files that are named, and all below the directories that are."""
    for path in paths:
        if not path.is_dir():
            if path.exists():
                yield path
            else:
                problems.append(Problem(str(path), "no such file or directory"))
            continue
        found = False
        for directory, names, files in os.walk(path):
            names.sort()
            for name in sorted(files):
                if name != _DIRECTORY_FILE:
                    found = True
                    yield Path(directory, name)
        if not found:
            problems.append(Problem(str(path), "the directory holds no file"))


def _named(view: View, series_number: int) -> tuple[str, str, str]:
    """(study UID, series UID, mark of the patient) of what a series holds."""
    series = present(view.series(series_number), "what has instances is in the index")
    patient = "" if view.may_be_joined(series.study) else view.whose(series_number)
    return view.study_of_series(series_number).uid, series.uid, patient
