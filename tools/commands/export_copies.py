"""An export: what is copied out of the store, read back, and listed with its checksums.

What is chosen is one state of the index. A file is copied only if its bytes are those that were
stored, and counts only when what lies at the new place has been read and is what was to be written.
What cannot be copied is named, in the list too. Memory stays flat: what is chosen waits in a file.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, Final, NamedTuple, Self, cast

import msgspec

from engine.dictionary.attributes import BY_TAG
from engine.errors import LocalError
from engine.files.tree import StoreTree
from engine.index.environment import IndexReader, View
from engine.index.records import Instance
from engine.index.stored_head import leaves_with
from engine.limits import MIB
from engine.outgoing.outgoing import CannotSend, outgoing_of
from engine.outgoing.pieces import FileRange
from engine.outgoing.whole_file import bytes_of, whole_file
from native import _core
from tools.commands.export_places import DirectoryPlace, Pieces, ZipPlace
from tools.commands.selection import Selection, stored

_in_memory_max: Final = 16 * MIB
_MANIFEST: Final = "manifest.jsonl"
_SUMS: Final = "SHA256SUMS"  # as `sha256sum --check` reads it
_named_max: Final = 20  # of what is missing; the manifest names all
# Whoever reads a file can read UTF-8; a remote AE may not be able to, so sending asks for each.
_CHARACTER_SETS: Final = ("ISO_IR 192",)
_STORED: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Chosen(msgspec.Struct, frozen=True, array_like=True):
    """One instance as the index has it, with {tag: text} of the corrections that it leaves with."""

    path: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    file_bytes: int
    file_crc32c: int
    corrections: dict[int, str]

    @property
    def name(self) -> str:
        """Of its copy. The first part of a path in the tree only keeps listings short."""
        return self.path.partition("/")[2]


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Chosen).decode


class Missing(NamedTuple):
    """An instance that could not be exported, and why."""

    sop_instance_uid: str
    reason: str


class NotAsWritten(Exception):  # noqa: N818 (the disk's fault, told to the operator)
    """What lies at the new place is not what was written there: `args[0]` is its name."""


class _Unfit(Exception):  # noqa: N818 (an answer about one instance)
    """It cannot be exported: `args[0]` says why."""


class Export:
    """One export to a place. `step` is called with bytes done: each counts when it is copied, and
    again when it is read back."""

    def __init__(
        self,
        data_directory: Path,
        place: DirectoryPlace | ZipPlace,
        as_received: bool,
        step: Callable[[int], None],
    ) -> None:
        self.instances = self.file_bytes = self.missing_count = 0
        self.missing: list[Missing] = []  # the first of them
        self._tree = StoreTree(data_directory)
        self._place = place
        self._as_received = as_received
        self._step = step
        self._files = ExitStack()
        self._chosen = self._laid_aside(data_directory)
        self._manifest = self._laid_aside(data_directory)
        self._sums = self._laid_aside(data_directory)

    def _laid_aside(self, directory: Path) -> BinaryIO:
        file = SpooledTemporaryFile(_in_memory_max, dir=str(directory))  # noqa: SIM115 (__exit__ does)
        return cast(BinaryIO, self._files.enter_context(file))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def choose(self, reader: IndexReader, selection: Selection) -> tuple[int, int]:
        """(instances, bytes) of what is asked for, each once. OperatorError: nothing is stored
        under a UID, or nobody knows whose it is."""
        seen: set[str] = set()
        count = total = 0
        with reader.view() as view:
            for series, instance in stored(view, selection):
                chosen = self._as_chosen(view, series, instance)
                if selection.may_overlap:
                    if chosen.path in seen:
                        continue
                    seen.add(chosen.path)
                count += 1
                total += chosen.file_bytes
                self._chosen.write(_encode(chosen) + b"\n")
        return count, total

    def _as_chosen(self, view: View, series: int, instance: Instance) -> Chosen:
        of_series = view.series(series)
        assert of_series is not None, "an instance's series is in the index"
        path = view.path_of(series, instance)
        stays = self._as_received
        return Chosen(
            path,
            view.study_of_series(series).uid,
            of_series.uid,
            instance.sop_instance_uid,
            instance.file_bytes,
            instance.file_crc32c,
            {} if stays else leaves_with(view, series, self._tree.absolute(path)),
        )

    def run(self) -> None:
        """All of it, until it is published. OSError: the new place cannot be written or read.
        NotAsWritten: it does not give back what was written. Nothing is published then."""
        self._chosen.seek(0)
        for line in self._chosen:
            self._export(_decode(line))
        lists = {_MANIFEST: self._manifest, _SUMS: self._sums}
        self._place.seal(lists)
        self._sums.seek(0)
        for line in self._sums:
            digest, _, name = line.decode("ascii").rstrip("\n").partition("  ")
            self._read_back(name, digest)
        self._place.publish(lists)

    def _export(self, chosen: Chosen) -> None:
        fields: dict[str, Any] = {
            "study_instance_uid": chosen.study_instance_uid,
            "series_instance_uid": chosen.series_instance_uid,
            "sop_instance_uid": chosen.sop_instance_uid,
        }
        try:
            digest, file_bytes = self._copy(chosen)
        except _Unfit as unfit:
            reason = str(unfit)
            self.missing_count += 1
            if len(self.missing) < _named_max:
                self.missing.append(Missing(chosen.sop_instance_uid, reason))
            fields["missing"] = reason
        else:
            self.instances += 1
            self.file_bytes += file_bytes
            self._sums.write(f"{digest}  {chosen.name}\n".encode("ascii"))
            fields |= {"file": chosen.name, "bytes": file_bytes, "sha256": digest}
            fields["corrected"] = sorted(BY_TAG[tag].keyword for tag in chosen.corrections)
        self._manifest.write(_encode(fields) + b"\n")
        self._step(chosen.file_bytes)

    def _copy(self, chosen: Chosen) -> tuple[str, int]:
        """(SHA-256, bytes) of its copy. A file that breaks off is seen before anything is written:
        in a ZIP file nothing can be taken back."""
        try:
            descriptor = os.open(self._tree.absolute(chosen.path), _STORED)
        except OSError as error:
            raise _Unfit(f"its file cannot be opened: {error.strerror}") from error
        try:
            digest, file_bytes = _looked_at(descriptor, chosen)
            self._place.write(chosen.name, _pieces(descriptor, chosen))
        finally:
            os.close(descriptor)
        return digest, file_bytes

    def _read_back(self, name: str, digest: str) -> None:
        found = hashlib.sha256()
        done = 0
        for data in self._place.read(name):
            found.update(data)
            done += len(data)
        if found.hexdigest() != digest:
            raise NotAsWritten(name)
        self._step(done)


def _looked_at(descriptor: int, chosen: Chosen) -> tuple[str, int]:
    """(SHA-256, bytes) of what shall be written. _Unfit: the file is not what was stored, or cannot
    be read, or its corrections cannot be put into it."""
    try:
        crc32c = 0
        for data in bytes_of(descriptor, FileRange(0, chosen.file_bytes)):
            crc32c = _core.crc32c(data, crc32c)
        if crc32c != chosen.file_crc32c or os.fstat(descriptor).st_size != chosen.file_bytes:
            raise _Unfit("its file is not what was stored: scai verify --content tells more")
        digest, file_bytes = hashlib.sha256(), 0
        for piece in _pieces(descriptor, chosen):
            digest.update(piece)
            file_bytes += len(piece)
    except LocalError as error:
        raise _Unfit(error.comment) from error
    except CannotSend as error:
        raise _Unfit(f"{error.reason}; --as-received copies it without corrections") from error
    except OSError as error:
        raise _Unfit(f"its file cannot be read: {error.strerror}") from error
    return digest.hexdigest(), file_bytes


def _pieces(descriptor: int, chosen: Chosen) -> Pieces:
    if not chosen.corrections:
        yield from bytes_of(descriptor, FileRange(0, chosen.file_bytes))
        return
    with outgoing_of(os.dup(descriptor)) as outgoing:
        yield from whole_file(outgoing, chosen.corrections, _CHARACTER_SETS)
