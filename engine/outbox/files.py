"""Files of local applications that are to be sent: looked at, and copied into the outbox directory.

Whoever brings a file (`scai send`, a watched folder) first has it examined, so that what can never
be sent is refused to its face. Then it is copied under a name of our own and made durable. Then its
deliveries are queued. From then on the application may do with its file what it likes.
"""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from engine.dictionary.attributes import (
    BY_KEYWORD,
    ISSUER_OF_PATIENT_ID,
    PATIENT_ID,
    SPECIFIC_CHARACTER_SET,
    decode_head,
    read_row,
)
from engine.dictionary.patient_mark import mark_of
from engine.dictionary.uids import is_explicit_vr
from engine.errors import LocalError
from engine.files.tree import FILE_SUFFIX, sync_directory
from engine.limits import (
    MIB,
    attribute_bytes_max,
    attributes_bytes_max,
    sent_head_bytes_max,
    sequence_depth_max,
    uid_characters_max,
)
from engine.outbox.records import NewDelivery
from engine.outbox.spool import OUTBOX_DIRECTORY, spooled_path
from engine.outgoing.outgoing import (
    CannotSend,
    Outgoing,
    Taken,
    open_outgoing,
    outgoing_of,
    proposals,
)
from native import _core

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
_study_tag: Final = BY_KEYWORD["StudyInstanceUID"].tag
_series_tag: Final = BY_KEYWORD["SeriesInstanceUID"].tag
_instance_tag: Final = 0x00080018
_wanted: Final = sorted(
    (
        SPECIFIC_CHARACTER_SET,
        PATIENT_ID,
        ISSUER_OF_PATIENT_ID,
        _study_tag,
        _series_tag,
        _instance_tag,
    )
)
_piece_bytes: Final = 8 * MIB


class Examined(NamedTuple):
    """A file that can be sent."""

    sop_instance_uid: str
    sop_class_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax_uid: str
    file_bytes: int
    patient: str  # the mark of whose it is

    def delivery(self, destination: str, origin: str, file: str) -> NewDelivery:
        """What is queued for it; `file` is its copy's name."""
        return NewDelivery(
            destination,
            self.sop_instance_uid,
            self.sop_class_uid,
            self.study_uid,
            self.series_uid,
            self.transfer_syntax_uid,
            self.file_bytes,
            origin,
            file,
            self.patient,
        )


def examine(path: str | Path, remotes: Iterable[Taken]) -> Examined:
    """Look whether a file can be sent to all of some remote AEs; `remotes`: what each of them
    takes beyond the conformance statement's table.

    CannotSend: it cannot. LocalError: it is no DICOM file, or cannot be read.
    """
    with open_outgoing(path) as outgoing:
        return _examined(outgoing, remotes)


def examine_open(descriptor: int, remotes: Iterable[Taken]) -> Examined:
    """Likewise, of a file that its caller has open."""
    with outgoing_of(os.dup(descriptor)) as outgoing:
        return _examined(outgoing, remotes)


def _examined(outgoing: Outgoing, remotes: Iterable[Taken]) -> Examined:
    for taken in remotes:
        proposals(outgoing.sop_class_uid, outgoing.transfer_syntax_uid, taken)
    try:
        head = os.pread(outgoing.descriptor, sent_head_bytes_max, outgoing.data_set_offset)
    except OSError as error:
        raise LocalError(f"the file cannot be read: {error.strerror}") from error
    row, _ = _core.scan_tags(
        head,
        is_explicit_vr(outgoing.transfer_syntax_uid),
        _wanted,
        attribute_bytes_max,
        attributes_bytes_max,
        sequence_depth_max,
    )
    found = {tag: _text(value) for tag, value in read_row(row)}
    # These two stand in the C-STORE-RQ, and one that is received without them is refused as well.
    # Whatever else is odd in a data set is sent as it would be if it had been received.
    uids = {
        "SOP Class UID": outgoing.sop_class_uid,
        "SOP Instance UID": outgoing.sop_instance_uid,
    }
    for name, uid in uids.items():
        if len(uid) > uid_characters_max or not _UID.fullmatch(uid):
            raise CannotSend(f"it has no valid {name}")
    if found.get(_instance_tag, "") != outgoing.sop_instance_uid:
        raise CannotSend("its file meta information names another SOP instance than its data set")
    return Examined(
        outgoing.sop_instance_uid,
        outgoing.sop_class_uid,
        found.get(_study_tag, ""),
        found.get(_series_tag, ""),
        outgoing.transfer_syntax_uid,
        outgoing.file_bytes,
        mark_of(decode_head(row).patient),
    )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("latin-1")


def fresh_name() -> str:
    """A name for a copy that nobody else uses."""
    return uuid4().hex + FILE_SUFFIX


def make_outbox(data_directory: Path) -> None:
    """The directory of copies, for us alone: what lies in it is patient data. Its name is synced
    with those of the copies (sync_copies())."""
    directory = data_directory / OUTBOX_DIRECTORY
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            owner = os.stat(data_directory)
            # Not by its name: the service's user could have put a link there by now.
            held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchown(held, owner.st_uid, owner.st_gid)
            finally:
                os.close(held)


def copy_in(source: str | Path, data_directory: Path, name: str) -> None:
    """A durable copy under this name; its directory is the caller's to sync, once for many.

    OSError: nothing is left of it.
    """
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        copy_from(descriptor, data_directory, name)
    finally:
        os.close(descriptor)


def copy_from(
    descriptor: int, data_directory: Path, name: str, through_memory: bool = False
) -> None:
    """Likewise, of a file that is open, as long as it is now: one that somebody goes on writing
    does not fill the disk.

    `through_memory`: of what the kernel shows, not of what the disk holds; a file system that
    shares blocks between copies would share those that a failed sync left behind.
    """
    target = spooled_path(data_directory, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    written = os.open(target, flags, 0o600)
    try:
        if os.geteuid() == 0:  # the service's own user has to read it
            owner = os.stat(target.parent)
            os.fchown(written, owner.st_uid, owner.st_gid)
        length, room = os.fstat(descriptor).st_size, os.fstatvfs(written)
        if length > room.f_bavail * room.f_frsize:  # a sparse file can say any length
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        _copy(descriptor, written, length, through_memory)
        os.fsync(written)
    except BaseException:
        target.unlink()
        raise
    finally:
        os.close(written)


def _copy(source: int, target: int, length: int, through_memory: bool) -> None:
    """From its beginning, within the kernel where it can."""
    done = 0
    while done < length and not through_memory:
        try:
            copied = os.copy_file_range(source, target, min(_piece_bytes, length - done), done)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            break
        if copied == 0:
            return  # it is shorter by now
        done += copied
    while done < length:
        piece = os.pread(source, min(_piece_bytes, length - done), done)
        if not piece:
            return
        done += len(piece)
        left = memoryview(piece)
        while left:
            left = left[os.write(target, left) :]


def sync_copies(data_directory: Path) -> None:
    """The names of all copies so far survive a power cut, and so does their directory's: whoever
    made it may have died before this, or was told that it failed."""
    for directory in (data_directory / OUTBOX_DIRECTORY, data_directory):
        sync_directory(directory)
