"""Parting what release 0.2.0 joined: a study whose files say that they are of several patients.

That release knew a study by its UID alone (engine/index/migration.py). Whose an instance is, its
file tells; so every instance of such a study is entered anew, where its own head says, in one
transaction. Titles, peer, times and checksums stay as the index had them; no file is moved, unless
the same patient's instance came again meanwhile: then the older file is set aside.
"""

from collections.abc import Iterator

from engine.errors import LocalError
from engine.files.arrival import Arrival
from engine.files.tree import StoreTree
from engine.index.batch import Batch, Entry
from engine.index.environment import View
from engine.index.records import Instance, Study
from engine.index.stored_head import read_stored_head
from engine.index.writer import IndexWriter


def stored_of(view: View, study: int) -> list[tuple[Instance, str]]:
    """(instance, path of its file) of a whole study."""
    return [
        (instance, view.path_of(series, instance))
        for series, _ in view.series_of(study)
        for instance in view.instances_of(series)
    ]


def entry_of(tree: StoreTree, instance: Instance, path: str) -> Entry:
    """What the file says it is, with what the index knows of its coming. LocalError: the file is
    not there or cannot be read."""
    try:
        with open(tree.absolute(path), "rb") as file:
            head, row = read_stored_head(file)
    except OSError as error:
        raise LocalError(f"{path} cannot be read: {error.strerror}") from error
    arrival = Arrival(
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.transfer_syntax_uid,
        instance.calling_ae_title,
        instance.called_ae_title,
        instance.peer,
        instance.received_ns,
        head.data_set_offset,
    )
    entry = Entry(
        arrival,
        row,
        instance.file_bytes,
        instance.file_crc32c,
        instance.journal,
        instance.sequence,
    )
    entry.mark_as(instance.mark)
    return entry


def strangers(tree: StoreTree, study: Study, stored: list[tuple[Instance, str]]) -> Iterator[str]:
    """The SOP Instance UIDs of those that stand in a study to which their files do not belong. A
    file that cannot be read is another finding's."""
    for instance, path in stored:
        try:
            entry = entry_of(tree, instance, path)
        except LocalError:
            continue
        alone = "" if entry.study_uid else instance.sop_instance_uid
        own = (entry.patient_mark, entry.study_uid, alone)
        if own != (study.patient_mark, study.uid, study.alone):
            yield instance.sop_instance_uid


def part(writer: IndexWriter, tree: StoreTree, study: int) -> list[str]:
    """Part a study; the paths of files that are to be set aside. LocalError: not all of its files
    can be read, or it has changed meanwhile."""
    with writer.reader().view() as view:
        stored = stored_of(view, study) if view.may_be_joined(study) else []
    if not stored:
        raise LocalError("the study is no longer there")
    stored.sort(key=lambda one: one[0].received_ns)
    entries = [(instance, entry_of(tree, instance, path)) for instance, path in stored]
    if any(entry.path != path for (_, entry), (_, path) in zip(entries, stored, strict=True)):
        raise LocalError("its files have other UIDs than the index")

    def work(batch: Batch) -> list[str]:
        if {path: one for one, path in stored_of(batch, study)} != {p: one for one, p in stored}:
            raise LocalError("it has changed meanwhile")
        return batch.part_study(study, entries)

    return writer.commit(work)


def note_parted(writer: IndexWriter, unparted: int) -> None:
    """Every study below this number was looked at and holds one patient's instances."""

    def work(batch: Batch) -> None:
        if batch.unparted() == unparted:
            batch.forget_unparted()

    writer.commit(work)
