"""Repairs: bringing index and files together again. Decided by a check, carried out by the writer.

Whoever checks (engine/verify/verify.py) may not write. It leaves a request in `repairs/`, which the
indexer takes up within a second; without a running service it applies the same actions itself,
holding the writer's lock. Each action is looked at again before it is carried out, since instances
may have come and gone meanwhile. No file is ever deleted: what is not wanted in the tree is set
aside.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from engine.errors import LocalError
from engine.files import letterbox
from engine.files.arrival import Arrival
from engine.files.tree import (
    FILE_SUFFIX,
    REPLACEMENT_SUFFIX,
    SET_ASIDE_DIRECTORY,
    StoreTree,
    sync_directory,
)
from engine.index.batch import Batch, Entry, choose_mark
from engine.index.stored_head import read_stored_head
from engine.index.writer import IndexWriter
from engine.verify import parting
from native import _core

# What becomes of an instance besides being kept, in the transaction that takes it in.
Arrived = Callable[[Batch, Entry, int], None]
REPAIRS_DIRECTORY: Final = "repairs"
_READ_BYTES: Final = 1 << 20


class Action(msgspec.Struct, frozen=True):
    """What one thing needs. `path` is relative to the tree.

    `adopt`: a file the index does not know. `forget`: a row whose file is gone. `set_aside`: a
    file. `recount`: a study's records. `part`: a study that holds several patients' instances.
    `parted`: a note that all are, up to a number. `take_back`: a file that was set aside, its path
    relative to there; it goes where the rules say, as if it came now by `called_ae_title`, and in
    the place of what is stored of its UID only with `replace`."""

    kind: Literal["adopt", "forget", "set_aside", "recount", "part", "parted", "take_back"]
    path: str = ""
    sop_instance_uid: str = ""
    study_uid: str = ""
    study: int = 0
    called_ae_title: str = ""
    replace: bool = False


class RepairResult(msgspec.Struct, frozen=True):
    """What became of an action; `text` says why when it was not carried out."""

    done: bool
    text: str = ""


class FileFound(NamedTuple):
    """What a file of the tree tells of itself, as an entry is made of it."""

    arrival: Arrival
    row: bytes
    file_bytes: int
    crc32c: int


def read_entry(tree: StoreTree, path: str) -> Entry:
    """The entry of a file in the tree, as its own head and bytes tell it. LocalError: none."""
    return Entry(*read_found(tree, path))


def read_found(tree: StoreTree, path: str) -> FileFound:
    """Read a file of the tree, head and bytes.

    Raises LocalError when it is no instance. What the file does not say (titles, peer, when it
    came) is left empty, the time is the file's.
    """
    with open(_checked(tree, path), "rb") as file:
        modified_ns = os.fstat(file.fileno()).st_mtime_ns
        head, row = read_stored_head(file)
        file.seek(0)
        crc32c, file_bytes = checksum(file.fileno())
    arrival = Arrival(
        head.sop_class,
        head.sop_instance,
        head.transfer_syntax,
        head.source_ae_title,
        "",
        "",
        modified_ns,
        head.data_set_offset,
    )
    return FileFound(arrival, row, file_bytes, crc32c)


def checksum(descriptor: int) -> tuple[int, int]:
    """(CRC-32C, bytes) of a file from its start."""
    crc32c, offset = 0, 0
    while True:
        data = os.pread(descriptor, _READ_BYTES, offset)
        if not data:
            return crc32c, offset
        crc32c = _core.crc32c(data, crc32c)
        offset += len(data)


def _checked(tree: StoreTree, path: str) -> str:
    """The absolute path of a plain file in the tree; requests may hold anything."""
    absolute = _inside(tree, path)
    if os.path.islink(absolute) or not os.path.isfile(absolute):
        raise LocalError("no plain file")
    return absolute


def _inside(tree: StoreTree, path: str) -> str:
    """The absolute path of whatever lies there in the tree, at any depth. No link leads there."""
    names = path.split("/")
    if "\0" in path or any(name in ("", ".", "..") for name in names):
        raise LocalError("not a path in the tree")
    absolute = tree.absolute(path)
    for depth in range(1, len(names)):
        if os.path.islink(tree.absolute("/".join(names[:depth]))):
            raise LocalError("a link leads there")
    if not os.path.lexists(absolute):
        raise LocalError("there is no such file any more")
    return absolute


# --- carrying out ------------------------------------------------------------------------------
def apply_actions(
    writer: IndexWriter, tree: StoreTree, actions: Sequence[Action], arrived: Arrived | None = None
) -> list[RepairResult]:
    """One after another, each in its own transaction: one that fails does not stop the others.
    `arrived`: what rules make of an instance that is taken back."""

    def take_back(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
        _take_back(writer, tree, action, arrived)

    apply = {
        "adopt": _adopt,
        "forget": _forget,
        "set_aside": _set_aside,
        "recount": _recount,
        "part": _part,
        "parted": _parted,
        "take_back": take_back,
    }
    outcomes: list[RepairResult] = []
    for action in actions:
        try:
            apply[action.kind](writer, tree, action)
            outcomes.append(RepairResult(True))
        except LocalError as error:
            outcomes.append(RepairResult(False, error.comment))
    return outcomes


def _settle(tree: StoreTree, path: str) -> None:
    """What nobody knows was perhaps never synced: it is now, and is read from the disk again."""
    descriptor = os.open(_checked(tree, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
        # A sync that failed before leaves pages that the kernel takes for clean.
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        directory = tree.root / path
        while directory != tree.root:
            directory = directory.parent
            sync_directory(directory)
    except OSError as error:
        raise LocalError(f"it could not be synced: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _adopt(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    _settle(tree, action.path)
    entry = read_entry(tree, action.path)
    uid, patient = entry.arrival.sop_instance_uid, entry.patient_mark
    with writer.reader().view() as view:
        marks = view.marks_of(uid)
        found = view.instance(uid, marks[patient]) if patient in marks else None
        known_path = None if found is None else view.path_of(*found)
    if known_path is not None and tree.size(known_path) is not None:
        if known_path == action.path:
            return  # it came into the index meanwhile
        raise LocalError("the index has another file of this instance")
    _choose_place(tree, entry, action.path, marks)
    if entry.path != action.path:
        tree.place(tree.absolute(action.path), entry.path)
    writer.commit(lambda batch: batch.put_instance(entry))
    if entry.path != action.path:
        tree.remove(action.path)


def _take_back(
    writer: IndexWriter, tree: StoreTree, action: Action, arrived: Arrived | None
) -> None:
    """The file is kept aside until the index is durable: whatever comes between is done again."""
    aside = StoreTree(tree.root.parent, SET_ASIDE_DIRECTORY)
    entry = read_entry(aside, action.path)
    entry.journal = action.path.partition("/")[0]
    entry.arrival = msgspec.structs.replace(entry.arrival, called_ae_title=action.called_ae_title)
    with writer.reader().view() as view:
        marks = view.marks_of(entry.arrival.sop_instance_uid)
    mark = choose_mark(marks, entry.patient_mark)
    if mark:
        entry.mark_as(mark)
    else:
        entry.mark = mark
    if entry.patient_mark in marks and not action.replace:
        raise LocalError("one of its SOP Instance UID is stored: --replace puts it in that place")
    tree.place(aside.absolute(action.path), entry.path)
    _settle(tree, entry.path)

    def apply(batch: Batch) -> str | None:
        put = batch.put_instance(entry)
        if arrived is not None:
            arrived(batch, entry, entry.arrival.received_ns)
        return put.removed_path

    elsewhere = writer.commit(apply)
    writer.sync()
    if elsewhere is not None:
        tree.remove(elsewhere)
    aside.remove(action.path)


def _choose_place(tree: StoreTree, entry: Entry, path: str, marks: Mapping[str, str]) -> None:
    """It stays where it is, if that is a place for it; it never takes another file's."""
    taken = {mark for patient, mark in marks.items() if patient != entry.patient_mark}
    choices = [mark for mark in ("", entry.patient_mark) if mark not in taken]
    for stays in (True, False):
        for mark in choices:
            entry.mark_as(mark)
            if entry.path == path if stays else tree.size(entry.path) is None:
                return
    raise LocalError("another file has the place of this instance")


def _forget(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    def forget(batch: Batch) -> None:
        for found in batch.instances_of_uid(action.sop_instance_uid):
            if batch.path_of(*found) != action.path:
                continue
            if tree.size(action.path) is not None:
                raise LocalError("its file is there again")
            batch.remove_instance(action.sop_instance_uid, found[1].mark)

    writer.commit(forget)


def _set_aside(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    absolute = _inside(tree, action.path)
    uids = [
        os.path.basename(action.path).removesuffix(REPLACEMENT_SUFFIX).removesuffix(FILE_SUFFIX)
    ]
    with suppress(LocalError):
        uids.append(read_entry(tree, action.path).arrival.sop_instance_uid)
    with writer.reader().view() as view:
        for uid in uids:
            if action.path in [view.path_of(*found) for found in view.instances_of_uid(uid)]:
                raise LocalError("the index needs this file")
    target = _free_name(tree.root.parent / SET_ASIDE_DIRECTORY / action.path)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.rename(absolute, target)
    except OSError as error:
        raise LocalError(f"it could not be moved: {error.strerror}") from error
    tree.remove(action.path)


def _free_name(target: Path) -> Path:
    """What was set aside before keeps its name."""
    number = 0
    free = target
    while os.path.lexists(free):
        number += 1
        free = target.with_name(f"{target.name}.{number}")
    return free


def _recount(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    del tree
    if not writer.commit(lambda batch: batch.recount(action.study)):
        raise LocalError("the study is no longer there")


def _part(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    for path in parting.part(writer, tree, action.study):
        _set_aside(writer, tree, Action("set_aside", path))


def _parted(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    del tree
    parting.note_parted(writer, action.study)


# --- requests ------------------------------------------------------------------------------------
_requests: Final = msgspec.json.Decoder(tuple[Action, ...])
_results: Final = msgspec.json.Decoder(tuple[RepairResult, ...])


def _written(path: str) -> str:
    """A path as JSON can hold it: a name in the tree may be any bytes, but for a NUL."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "\0" + os.fsencode(path).hex()
    return path


def _read(path: str) -> str:
    if not path.startswith("\0"):
        return path
    try:
        return os.fsdecode(bytes.fromhex(path[1:]))
    except ValueError:
        return path  # no path of ours, and none in the tree


def leave_request(data_directory: Path, actions: Sequence[Action]) -> Path:
    """Ask the indexer; the path is what await_result() wants."""
    written = [msgspec.structs.replace(one, path=_written(one.path)) for one in actions]
    return letterbox.leave(data_directory / REPAIRS_DIRECTORY, msgspec.json.encode(written))


def await_result(request: Path, timeout_s: float) -> list[RepairResult]:
    """Raises OperatorError when the indexer does not answer in time; the request is withdrawn."""
    answered = letterbox.answer_to(request, letterbox.within(timeout_s), "the repairs")
    return list(_results.decode(answered))


def serve_requests(
    data_directory: Path, writer: IndexWriter, tree: StoreTree, arrived: Arrived | None = None
) -> int:
    """The indexer's: carry out what lies in `repairs/`; how many actions were carried out."""
    carried_out = 0
    for request in letterbox.waiting(data_directory / REPAIRS_DIRECTORY):
        try:
            asked: Sequence[Action] = _requests.decode(request.read_bytes())
            actions = [msgspec.structs.replace(one, path=_read(one.path)) for one in asked]
            outcomes = apply_actions(writer, tree, actions, arrived)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            outcomes = [RepairResult(False, f"no request: {error}")]
        except FileNotFoundError:
            continue  # withdrawn
        carried_out += sum(outcome.done for outcome in outcomes)
        letterbox.answer(request, msgspec.json.encode(outcomes))
    return carried_out
