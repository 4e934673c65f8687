"""A data directory with real files in it, made without a service: stored, replaced and removed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom

from engine.files.tree import StoreTree
from engine.index.batch import choose_mark
from engine.index.writer import IndexWriter
from engine.verify.repair import read_entry
from tests.material import samples

STUDY = "1.2.826.0.1.3680043.10.2"


class StoredData:
    """One data directory and its writer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.writer = IndexWriter(directory)
        self.tree = StoreTree(directory)

    def put(self, number: int, comment: str = "", study: str = STUDY, patient: str = "ANNA") -> str:
        """Store a small CT, in the place of the one of that number; its path in the tree. All are
        of one size, whatever their comments."""
        dataset = pydicom.dcmread(samples.original("CT_small.dcm"))
        uid = f"{STUDY}.9.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.StudyInstanceUID, dataset.PatientID = study, patient
        dataset.SeriesInstanceUID = f"{study}.1"
        dataset.ImageComments = f"{comment:20.20}."
        arrived = self.tree.prepare("arrived.dcm")
        dataset.save_as(arrived)
        entry = read_entry(self.tree, "arrived.dcm")
        entry.sequence, entry.journal = number, "scp" + comment
        with self.writer.reader().view() as view:
            entry.mark_as(choose_mark(view.marks_of(uid), entry.patient_mark))
        self.tree.place(arrived, entry.path)
        os.unlink(arrived)
        put = self.writer.commit(lambda batch: batch.put_instance(entry))
        if put.removed_path:
            self.tree.remove(put.removed_path)
        return entry.path

    def remove(self, number: int) -> None:
        """Take one out, and its file."""
        with self.writer.reader().view() as view:
            ((series, instance),) = view.instances_of_uid(f"{STUDY}.9.{number}")
            path = view.path_of(series, instance)
        self.writer.commit(lambda batch: batch.remove_instance(instance.sop_instance_uid))
        self.tree.remove(path)

    def files(self) -> dict[str, bytes]:
        """{path in the tree: bytes}"""
        return files_of(self.directory)


def files_of(directory: Path) -> dict[str, bytes]:
    """Those of the tree of any data directory."""
    root = directory / "store"
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@contextmanager
def stored_data(directory: Path, count: int) -> Iterator[StoredData]:
    """With so many instances of one study."""
    data = StoredData(directory)
    try:
        for number in range(count):
            data.put(number)
        yield data
    finally:
        data.writer.close()
