"""The check that the index and the files agree, made as a reader, while the service goes on.

There are three walks, in portions so that no read transaction is held for long. Every row of the
index has its file, of the right size and, if asked for, with the right bytes. Every file of the
tree has its row. Every study's records agree with each other. What looks wrong is looked at again
at the end, since an instance that is just arriving has its file some milliseconds before its row.
It waits so long by the clock.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import LocalError
from engine.files.tree import FILE_SUFFIX, REPLACEMENT_SUFFIX, StoreTree, component
from engine.index import records
from engine.index.environment import IndexReader, View
from engine.index.portions import portions
from engine.index.records import Instance
from engine.verify.findings import Finding, FindingKind, VerifyReport
from engine.verify.parting import stored_of, strangers
from engine.verify.repair import checksum, read_entry
from engine.verify.tables import check_tables

if TYPE_CHECKING:
    from engine.pixels.check import Checked

_portion: Final = 1000
# An arriving instance is placed and indexed well within this.
_pause_s: Final = 0.5
_OF_ROWS: Final = (
    FindingKind.MISSING,
    FindingKind.WRONG_SIZE,
    FindingKind.WRONG_BYTES,
    FindingKind.PIXELS,
)


class Verifier:
    """One check of one data directory. `progress` is called now and then with the report so far.

    `images` are checks of files by transfer syntax (engine/pixels/check.py); none: they are not
    decoded.
    """

    def __init__(
        self,
        data_directory: Path,
        reader: IndexReader,
        content: bool = False,
        progress: Callable[[VerifyReport], None] = lambda _: None,
        images: "Mapping[str, Callable[[int], Checked]] | None" = None,
    ) -> None:
        self._tree = StoreTree(data_directory)
        self._reader = reader
        self._content = content
        self._progress = progress
        self._images = images or {}
        self.report = VerifyReport()

    def run(self, pause_s: float = _pause_s) -> VerifyReport:
        """All three walks; then what looked wrong once more. IndexDamagedError: the index itself
        has to be made anew."""
        check_tables(self._reader)
        # The records first: repaired first, they carry the other repairs.
        suspects = [*self._walk_records(), *self._walk_index(), *self._walk_tree()]
        # What is missing goes first: a study is parted by what all of its files say.
        suspects += self._walk_joined()
        if suspects:
            time.sleep(pause_s)
        first, self.report = self.report, VerifyReport()  # what is looked at twice is counted once
        first.findings = [
            again for suspect in suspects if (again := self._look_again(suspect)) is not None
        ]
        self.report = first
        return first

    def _look_again(self, suspect: Finding) -> Finding | None:
        if suspect.kind in _OF_ROWS:
            with self._reader.view() as view:
                paths = {
                    view.path_of(*found): found[1]
                    for found in view.instances_of_uid(suspect.sop_instance_uid)
                }
            instance = paths.get(suspect.path)
            return None if instance is None else self._check_file(suspect.path, instance)
        if suspect.kind is FindingKind.JOINED:
            return self._check_joined(suspect.study)
        if suspect.kind is FindingKind.RECORDS:
            with self._reader.view() as view:
                if not suspect.study:
                    return next(iter(_check_sums(view)), None)
                return _check_study(view, suspect.study)
        with self._reader.view() as view:
            return self._check_row(view, suspect.path)

    # --- every row has its file ---
    def _walk_index(self) -> Iterator[Finding]:
        for portion in portions(self._reader, _portion):
            for instance, path in portion:
                self.report.instances += 1
                finding = self._check_file(path, instance)
                if finding is not None:
                    yield finding
            self._progress(self.report)

    def _check_file(self, path: str, instance: Instance) -> Finding | None:
        uid = instance.sop_instance_uid
        size = self._tree.size(path)
        if size is None:
            return Finding(FindingKind.MISSING, path, uid)
        if size != instance.file_bytes:
            text = f"{size} bytes, {instance.file_bytes} were stored"
            return Finding(FindingKind.WRONG_SIZE, path, uid, text=text)
        check = self._images.get(instance.transfer_syntax_uid)
        if not self._content and check is None:
            return None
        try:
            with open(self._tree.absolute(path), "rb") as file:
                crc32c, file_bytes = checksum(file.fileno())
                checked = check(file.fileno()) if check is not None else None
        except FileNotFoundError:
            return Finding(FindingKind.MISSING, path, uid)
        except OSError as error:
            return Finding(FindingKind.WRONG_BYTES, path, uid, text=str(error.strerror))
        self.report.checked_bytes += file_bytes
        if crc32c != instance.file_crc32c:
            text = f"CRC-32C {crc32c:08x}, {instance.file_crc32c:08x} was stored"
            return Finding(FindingKind.WRONG_BYTES, path, uid, text=text)
        if checked is None:
            return None
        self.report.images += 1
        self.report.frames += checked.frames
        self.report.frames_unchecked += checked.frames_unchecked
        return Finding(FindingKind.PIXELS, path, uid, text=checked.fault) if checked.fault else None

    # --- every file has its row ---
    def _walk_tree(self) -> Iterator[Finding]:
        root = str(self._tree.root)
        for directory, folders, files in os.walk(root):
            folders.sort()
            # A link to a directory is none of ours, and leads out of the tree: it is not followed.
            files += [name for name in folders if os.path.islink(os.path.join(directory, name))]
            inside = os.path.relpath(directory, root)
            for portion in (files[i : i + _portion] for i in range(0, len(files), _portion)):
                with self._reader.view() as view:
                    for name in portion:
                        self.report.files += 1
                        path = name if inside == "." else f"{inside}/{name}"
                        finding = self._check_row(view, path)
                        if finding is not None:
                            yield finding
                self._progress(self.report)

    def _check_row(self, view: View, path: str) -> Finding | None:
        name = path.rpartition("/")[2]
        uid = name.removesuffix(FILE_SUFFIX)
        is_plain = name.endswith(FILE_SUFFIX) and component(uid) == uid
        if is_plain and path in _paths_of(view, uid):
            return None
        if self._tree.size(path) is None:
            return None  # gone meanwhile
        if name.endswith(REPLACEMENT_SUFFIX):
            return Finding(FindingKind.FOREIGN, path, text="left by an interrupted replacement")
        try:
            entry = read_entry(self._tree, path)
        except LocalError as error:
            return Finding(FindingKind.FOREIGN, path, text=error.comment)
        uid = entry.arrival.sop_instance_uid
        if path in _paths_of(view, uid):
            return None
        mark = view.marks_of(uid).get(entry.patient_mark)
        found = None if mark is None else view.instance(uid, mark)
        if found is None:
            return Finding(FindingKind.UNKNOWN, path, uid)
        known_path = view.path_of(*found)
        if self._tree.size(known_path) is None:
            return Finding(
                FindingKind.UNKNOWN, path, uid, text="the index names a file that is gone"
            )
        return Finding(FindingKind.STALE, path, uid, text=f"the index has {known_path}")

    # --- the records agree ---
    def _walk_records(self) -> Iterator[Finding]:
        after = b""
        while True:
            with self._reader.view() as view:
                start = after + b"\0" if after else b""
                portion = [key for key, _ in zip(_keys(view, start), range(_portion), strict=False)]
                for key in portion:
                    self.report.studies += 1
                    number = records.NUMBER.unpack(key)[0]
                    self._note_shared(view, number)
                    finding = _check_study(view, number)
                    if finding is not None:
                        yield finding
            self._progress(self.report)
            if not portion:
                break
            after = portion[-1]
        with self._reader.view() as view:
            yield from _check_sums(view)

    def _note_shared(self, view: View, number: int) -> None:
        study = view.study(number)
        patients = len(view.studies_of_uid(study.uid)) if study is not None and study.uid else 0
        if study is not None and patients > 1:
            self.report.shared[study.uid] = patients

    # --- a study is one patient's ---
    def _walk_joined(self) -> Iterator[Finding]:
        """Of what release 0.2.0 wrote; its files' heads are read, so it may take its time."""
        with self._reader.view() as view:
            self.report.unparted = unparted = view.unparted()
            numbers = [records.NUMBER.unpack(key)[0] for key in _keys(view, b"")]
        for number in numbers:
            finding = self._check_joined(number) if number < unparted else None
            if finding is not None:
                yield finding

    def _check_joined(self, number: int) -> Finding | None:
        with self._reader.view() as view:
            study = view.study(number)
            stored = [] if study is None else stored_of(view, number)
        if study is None:
            return None
        count = sum(1 for _ in strangers(self._tree, study, stored))
        if not count:
            return None
        text = f"{count} of its {len(stored)} instances belong elsewhere"
        return Finding(FindingKind.JOINED, study_uid=study.uid, study=number, text=text)


def _paths_of(view: View, sop_instance_uid: str) -> list[str]:
    """Where the files of all patients' instances of a UID lie."""
    return [view.path_of(*found) for found in view.instances_of_uid(sop_instance_uid)]


def _keys(view: View, start: bytes) -> Iterator[bytes]:
    return (key for key, _ in view.keys_from("studies", start))


def _check_study(view: View, number: int) -> Finding | None:
    """The sums, words and look-ups of one study against its instances."""
    study = view.study(number)
    if study is None:
        return None
    wrong: list[str] = []
    series_count = instances = file_bytes = 0
    modalities: dict[str, int] = {}
    for series_number, series in view.series_of(number):
        series_count += 1
        own = list(view.instances_of(series_number))
        own_bytes = sum(instance.file_bytes for instance in own)
        instances += len(own)
        file_bytes += own_bytes
        if (series.instances, series.file_bytes) != (len(own), own_bytes):
            wrong.append("the sums of a series")
        if series.modality:
            modalities[series.modality] = modalities.get(series.modality, 0) + 1
        for instance in own:
            found = view.instance(instance.sop_instance_uid, instance.mark)
            if found is None or found[0] != series_number:
                wrong.append("the look-up of an instance")
    if (study.series, study.instances, study.file_bytes) != (series_count, instances, file_bytes):
        wrong.append("the sums of the study")
    if study.modalities != modalities:
        wrong.append("its modalities")
    if any(view.lacks("words", word) for word in records.study_words(number, study)):
        wrong.append("its search keys")
    if (number, study.patient) not in view.studies_of_uid(study.uid, study.alone):
        wrong.append("its look-up")
    if view.patient(study.patient) is None:
        wrong.append("its patient")
    if not wrong:
        return None
    text = ", ".join(dict.fromkeys(wrong))
    return Finding(FindingKind.RECORDS, study_uid=study.uid, study=number, text=text)


def _check_sums(view: View) -> Iterator[Finding]:
    """What no single study shows: tables that go together have as many rows."""
    for one, other in (
        ("instances", "sop_uids"),
        ("series", "series_uids"),
        ("series", "members"),
        ("studies", "study_uids"),
        ("patients", "patient_ids"),
    ):
        if view.count(one) != view.count(other):
            text = f"{view.count(one)} {one}, {view.count(other)} {other}"
            yield Finding(FindingKind.RECORDS, text=text)
