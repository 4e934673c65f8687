"""Entries of the index made up, put into it, and the whole of it checked."""

import itertools

from engine.dictionary.attributes import BY_KEYWORD, write_row
from engine.files.arrival import Arrival
from engine.index import corrections, records
from engine.index.batch import Entry, Put
from engine.index.environment import View
from engine.index.writer import IndexWriter

_clock = itertools.count(1_700_000_000_000_000_000)


def make_entry(sop: str, series: str = "1.3", study: str = "1.2", **values: str) -> Entry:
    """An entry as the indexer makes it of a journal record; `values` by keyword."""
    sizes = {"file_bytes": 100, "sequence": 1}
    numbers = {name: int(values.pop(name, size)) for name, size in sizes.items()}
    texts = {"PatientID": "P1", "PatientName": "Doe^Jane", "Modality": "CT"}
    texts |= {"StudyInstanceUID": study, "SeriesInstanceUID": series} | values
    row = {BY_KEYWORD[name].tag: text.encode("latin-1") for name, text in texts.items() if text}
    arrival = Arrival(
        "1.2.840.10008.5.1.4.1.1.2", sop, "1.2.840.10008.1.2", "CT1", "SCP_AE", "::1", next(_clock)
    )
    return Entry(arrival, write_row(row), numbers["file_bytes"], 7, "scp", numbers["sequence"])


def put(writer: IndexWriter, *entries: Entry) -> list[Put]:
    return writer.commit(lambda batch: [batch.put_instance(entry) for entry in entries])


def study_number(view: View, uid: str) -> int | None:
    """Of the one study of a UID, if there is one."""
    numbers = [number for number, _ in view.studies_of_uid(uid)]
    assert len(numbers) <= 1, "several patients have it"
    return numbers[0] if numbers else None


def check_whole(view: View) -> None:
    """Every table agrees with what the instances say."""
    words: set[bytes] = set()
    studies: dict[int, list[int]] = {}
    seen = 0
    for key, value in view.keys_from("series", b""):
        number, series = records.NUMBER.unpack(key)[0], records.decode_series(value)
        instances = list(view.instances_of(number))
        seen += len(instances)
        assert series.instances == len(instances) > 0
        assert series.file_bytes == sum(i.file_bytes for i in instances)
        assert number in view.series_numbers_by_uid(series.uid)
        of_study = view.study_of_series(number)
        assert series.corrections == corrections.for_series(view.correction, of_study, series)
        for instance in instances:
            assert view.instance(instance.sop_instance_uid, instance.mark) == (number, instance)
        studies.setdefault(series.study, []).append(number)
    assert seen == view.count("instances") == view.count("sop_uids")
    patients: dict[int, int] = {}
    for number, members in studies.items():
        study = view.study(number)
        assert study is not None
        assert (number, study.patient) in view.studies_of_uid(study.uid, study.alone)
        assert study.corrections == corrections.for_study(view.correction, study)
        assert [n for n, _ in view.series_of(number)] == sorted(members)
        found = [view.series(n) for n in members]
        assert study.series == len(members)
        assert study.instances == sum(s.instances for s in found if s)
        assert study.file_bytes == sum(s.file_bytes for s in found if s)
        modalities = [s.modality for s in found if s and s.modality]
        assert study.modalities == {m: modalities.count(m) for m in modalities}
        words |= set(records.study_words(number, study))
        patients[study.patient] = patients.get(study.patient, 0) + 1
    assert len(studies) == view.count("studies") == view.count("study_uids")
    assert {key for key, _ in view.keys_from("words", b"")} == words
    for key, value in view.keys_from("patients", b""):
        assert records.decode_patient(value).studies == patients.pop(records.NUMBER.unpack(key)[0])
    assert not patients
    assert view.count("patients") == view.count("patient_ids")
    assert view.count("series") == view.count("series_uids") == view.count("members")
