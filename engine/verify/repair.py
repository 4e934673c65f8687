"""Repairs: bringing index and files together again. Decided by a check, carried out by the writer.

Whoever checks (engine/verify/verify.py) may not write. It leaves a request in `repairs/`, which the
indexer takes up within a second; without a running service it applies the same actions itself,
holding the writer's lock. Each action is looked at again before it is carried out, since instances
may have come and gone meanwhile. No file is ever deleted: what is not wanted in the tree is set
aside.
"""

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from engine.dictionary.attributes import WANTED_TAGS
from engine.dictionary.uids import implicit_vr_little_endian
from engine.errors import LocalError, OperatorError
from engine.files.arrival import Arrival
from engine.files.part10 import read_part10_head
from engine.files.tree import FILE_SUFFIX, REPLACEMENT_SUFFIX, StoreTree
from engine.index.batch import Batch, Entry
from engine.index.writer import IndexWriter
from engine.limits import attribute_bytes_max, attributes_bytes_max
from native import _core

REPAIRS_DIRECTORY: Final = "repairs"
SET_ASIDE_DIRECTORY: Final = "set_aside"
_REQUEST_SUFFIX: Final = ".request.json"
_RESULT_SUFFIX: Final = ".result.json"
_READ_BYTES: Final = 1 << 20
_HEAD_BYTES_MAX: Final = 1 << 20  # file meta and all wanted attributes lie far within
_PATH: Final = re.compile(r"[0-9a-f]{2}(/[0-9a-zA-Z.-]{1,80}){3}")
_old_s: Final = 3600.0  # a result nobody fetched


class Action(msgspec.Struct, frozen=True):
    """`adopt` a file the index does not know, `forget` a row whose file is gone, `set_aside` a
    file, `recount` a study's records. `path` is relative to the tree."""

    kind: Literal["adopt", "forget", "set_aside", "recount"]
    path: str = ""
    sop_instance_uid: str = ""
    study_uid: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What became of an action; `text` says why when it was not carried out."""

    done: bool
    text: str = ""


def read_entry(tree: StoreTree, path: str) -> Entry:
    """The entry of a file in the tree, as its own head and bytes tell it.

    Raises LocalError when it is no instance. What the file does not say (titles, peer, when it
    came) is left empty, the time is the file's.
    """
    with open(_checked(tree, path), "rb") as file:
        modified_ns = os.fstat(file.fileno()).st_mtime_ns
        start = file.read(_HEAD_BYTES_MAX)
        head = read_part10_head(start)
        explicit = head.transfer_syntax != implicit_vr_little_endian
        row, outcome = _core.scan_tags(
            start[head.data_set_offset :],
            explicit,
            WANTED_TAGS,
            attribute_bytes_max,
            attributes_bytes_max,
        )
        del outcome  # a malformed data set is kept as it is; what came before is indexed
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
    return Entry(arrival, row, file_bytes, crc32c)


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
    if not _PATH.fullmatch(path) or "/.." in path:
        raise LocalError("not a path in the tree")
    absolute = tree.absolute(path)
    if os.path.islink(absolute) or not os.path.isfile(absolute):
        raise LocalError("there is no such file any more")
    return absolute


# --- carrying out ------------------------------------------------------------------------------
def apply_actions(writer: IndexWriter, tree: StoreTree, actions: Sequence[Action]) -> list[Outcome]:
    """One after another, each in its own transaction: one that fails does not stop the others."""
    apply = {"adopt": _adopt, "forget": _forget, "set_aside": _set_aside, "recount": _recount}
    outcomes: list[Outcome] = []
    for action in actions:
        try:
            apply[action.kind](writer, tree, action)
            outcomes.append(Outcome(True))
        except LocalError as error:
            outcomes.append(Outcome(False, error.comment))
    return outcomes


def _adopt(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    entry = read_entry(tree, action.path)
    with writer.reader().view() as view:
        found = view.instance(entry.arrival.sop_instance_uid)
        known_path = None if found is None else view.path_of(*found)
    if known_path is not None and tree.size(known_path) is not None:
        if known_path == action.path:
            return  # it came into the index meanwhile
        raise LocalError("the index has another file of this instance")
    if entry.path != action.path:
        tree.place(tree.absolute(action.path), entry.path)
    writer.commit(lambda batch: batch.put_instance(entry))
    if entry.path != action.path:
        tree.remove(action.path)


def _forget(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    def forget(batch: Batch) -> None:
        found = batch.instance(action.sop_instance_uid)
        if found is not None and tree.size(batch.path_of(*found)) is not None:
            raise LocalError("its file is there again")
        batch.remove_instance(action.sop_instance_uid)

    writer.commit(forget)


def _set_aside(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    absolute = _checked(tree, action.path)
    uid = os.path.basename(action.path).removesuffix(REPLACEMENT_SUFFIX).removesuffix(FILE_SUFFIX)
    with writer.reader().view() as view:
        found = view.instance(uid)
        if found is not None and view.path_of(*found) == action.path:
            raise LocalError("the index needs this file")
    target = tree.root.parent / SET_ASIDE_DIRECTORY / action.path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.replace(absolute, target)
    tree.remove(action.path)


def _recount(writer: IndexWriter, tree: StoreTree, action: Action) -> None:
    del tree
    if not writer.commit(lambda batch: batch.recount(action.study_uid)):
        raise LocalError("the study is no longer there")


# --- requests ------------------------------------------------------------------------------------
_requests: Final = msgspec.json.Decoder(tuple[Action, ...])
_results: Final = msgspec.json.Decoder(tuple[Outcome, ...])


def leave_request(data_directory: Path, actions: Sequence[Action]) -> Path:
    """Ask the indexer; the path is what await_result() wants."""
    directory = data_directory / REPAIRS_DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    name = f"{time.time_ns():x}-{os.getpid()}"
    fresh = directory / f"{name}.new"
    request = directory / f"{name}{_REQUEST_SUFFIX}"
    fresh.write_bytes(msgspec.json.encode(actions))
    fresh.replace(request)
    return request


def await_result(request: Path, timeout_s: float) -> list[Outcome]:
    """Raises OperatorError when the indexer does not answer in time; the request is withdrawn."""
    result = request.with_name(request.name.removesuffix(_REQUEST_SUFFIX) + _RESULT_SUFFIX)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            outcomes = _results.decode(result.read_bytes())
        except FileNotFoundError:
            time.sleep(0.05)
            continue
        result.unlink()
        return list(outcomes)
    request.unlink(missing_ok=True)
    raise OperatorError("the indexer did not take up the repairs; is the service in trouble?")


def serve_requests(data_directory: Path, writer: IndexWriter, tree: StoreTree) -> int:
    """The indexer's: carry out what lies in `repairs/`; how many actions were carried out."""
    directory = data_directory / REPAIRS_DIRECTORY
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return 0
    carried_out = 0
    for name in names:
        path = directory / name
        if not name.endswith(_REQUEST_SUFFIX):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _old_s:
                    path.unlink()
            continue
        try:
            actions: Sequence[Action] = _requests.decode(path.read_bytes())
            outcomes = apply_actions(writer, tree, actions)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            outcomes = [Outcome(False, f"no request: {error}")]
        except FileNotFoundError:
            continue  # withdrawn
        carried_out += sum(outcome.done for outcome in outcomes)
        fresh = directory / f"{name}.new"
        fresh.write_bytes(msgspec.json.encode(outcomes))
        path.unlink(missing_ok=True)
        fresh.replace(directory / (name.removesuffix(_REQUEST_SUFFIX) + _RESULT_SUFFIX))
    return carried_out
