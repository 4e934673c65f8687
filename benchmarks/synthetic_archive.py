"""A hospital's archive, synthesised: the journal records of instances that were never made.

Promises: any number of instances, each by its number alone, the same in every run; five studies at
a time are under way, as when five scanners send at once. Names, dates and identifiers are spread as
in an archive, so that the index's secondary keys have work to do.
"""

from collections.abc import Iterator
from typing import Final

from engine.dictionary.attributes import BY_KEYWORD, write_row
from engine.files.arrival import Arrival
from engine.index.batch import Entry

STUDY_INSTANCES: Final = 250
SERIES_INSTANCES: Final = 100
STUDIES_AT_ONCE: Final = 5
DAYS: Final = 3650
FILE_BYTES: Final = 525_588
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_MR: Final = "1.2.840.10008.5.1.4.1.1.4"
_EXPLICIT: Final = "1.2.840.10008.1.2.1"
_FAMILIES: Final = ("SATO", "SUZUKI", "TAKAHASHI", "TANAKA", "WATANABE", "ITO", "YAMAMOTO",
                    "NAKAMURA", "KOBAYASHI", "KATO", "YOSHIDA", "YAMADA", "SASAKI")  # fmt: skip
_FIRST_NS: Final = 1_700_000_000_000_000_000


def study_of(number: int) -> tuple[int, int]:
    """(study, place in the study) of an instance."""
    lane, turn = number % STUDIES_AT_ONCE, number // STUDIES_AT_ONCE
    return turn // STUDY_INSTANCES * STUDIES_AT_ONCE + lane, turn % STUDY_INSTANCES


def study_uid(study: int) -> str:
    return f"2.25.4711.3.{100_000_000 + study}"


def instance_uid(number: int) -> str:
    return f"2.25.4711.1.{100_000_000_000 + number}"


def patient_id(study: int) -> str:
    return f"P{study // 2:08d}"


def family_name(study: int) -> str:
    """Thirteen usual names, each with a number, so that a name fits few of many patients."""
    patient = study // 2
    return f"{_FAMILIES[patient % len(_FAMILIES)]}{patient // 40:05d}"


def study_date(study: int) -> str:
    """Spread over ten years by a step that shares no factor with their days."""
    day = study * 1009 % DAYS
    return f"{2014 + day // 365:04d}{day % 365 // 31 + 1:02d}{day % 365 % 28 + 1:02d}"


def _upper(study: int, series: int) -> dict[str, str]:
    modality = "MR" if study % 3 == 2 else "CT"
    return {
        "SpecificCharacterSet": "ISO_IR 100",
        "StudyDate": study_date(study),
        "SeriesDate": study_date(study),
        "StudyTime": "101112",
        "AccessionNumber": f"A{study:09d}",
        "Modality": modality,
        "Manufacturer": "SYNTHETIC",
        "InstitutionName": "HOSPITAL",
        "StudyDescription": "ABDOMEN",
        "SeriesDescription": f"AXIAL {series}",
        "PatientName": f"{family_name(study)}^TARO",
        "PatientID": patient_id(study),
        "PatientBirthDate": "19500101",
        "PatientSex": "O",
        "StudyInstanceUID": study_uid(study),
        "SeriesInstanceUID": f"2.25.4711.2.{100_000_000 + study}.{series + 1}",
        "StudyID": str(study % 1000),
        "SeriesNumber": str(series + 1),
    }


def _instance(place: int) -> dict[str, str]:
    return {
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL",
        "AcquisitionTime": f"10{place // 60:02d}{place % 60:02d}",
        "InstanceNumber": str(place + 1),
        "Rows": "\x00\x02",
        "Columns": "\x00\x02",
    }


def row_of(study: int, place: int) -> bytes:
    """The index attributes as the journal carries them."""
    values = _upper(study, place // SERIES_INSTANCES) | _instance(place)
    encoded = {}
    for keyword, text in values.items():
        attribute = BY_KEYWORD[keyword]
        padding = "\0" if attribute.vr == "UI" else " "
        encoded[attribute.tag] = (text + padding * (len(text) % 2)).encode("latin-1")
    return write_row(encoded)


def records(first: int, count: int) -> Iterator[tuple[Arrival, bytes, int]]:
    """(arrival, attribute row, sequence) of instances `first` and on."""
    for number in range(first, first + count):
        study, place = study_of(number)
        arrival = Arrival(
            sop_class_uid=_MR if study % 3 == 2 else _CT,
            sop_instance_uid=instance_uid(number),
            transfer_syntax_uid=_EXPLICIT,
            calling_ae_title="SCANNER",
            called_ae_title="SCP_AE",
            peer="127.0.0.1",
            received_ns=_FIRST_NS + number * 1_000_000,
        )
        yield arrival, row_of(study, place), number + 1


def entry_of(record: tuple[Arrival, bytes, int]) -> Entry:
    """What the indexer makes of a record."""
    arrival, row, sequence = record
    return Entry(arrival, row, FILE_BYTES, sequence & 0xFFFFFFFF, "storage-104", sequence)
