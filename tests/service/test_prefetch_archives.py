"""Prefetching from real archives: exactly the right priors arrive, through PrefetchAP, once."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from engine.prefetch.records import JobState
from tests.rigs.archives import AVAILABLE, MadeStudy, Orthanc, Qrscp, make_study, prefetching, send
from tests.rigs.gateway import Gateway
from tests.rigs.prefetch_ends import ended_job, jobs_of

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not AVAILABLE, reason="Orthanc or DCMTK is not installed"),
]
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
Archive = Orthanc | Qrscp
RULE = 'modalities = ["CT", "MR"]\nwithin = "5 years"\nquiet_s = 0\n'


@pytest.fixture
def gateway(make_gateway: Callable[..., Gateway]) -> Gateway:
    return make_gateway({"query_retrieve_scu": {"query_timeout_s": 10}})


@pytest.fixture(params=[Orthanc, Qrscp])
def archive(request: pytest.FixtureRequest, tmp_path: Path, gateway: Gateway) -> Iterator[Archive]:
    made: Archive = request.param(tmp_path / "archive", gateway.prefetch_port)
    yield made
    made.close()


def studies_of(tmp_path: Path, patient: str, **other: str) -> dict[str, MadeStudy]:
    """A patient's studies at an archive, the last of which is the one that arrives."""
    make: Callable[..., MadeStudy] = make_study
    return {
        "near": make(tmp_path / "near", patient, "20230510", ("CT", "MR"), **other),
        "far": make(tmp_path / "far", patient, "20190701", ("CT",), **other),
        "too old": make(tmp_path / "old", patient, "20180101", ("CT",), **other),
        "ultrasound": make(tmp_path / "us", patient, "20220101", ("US",), **other),
        "trigger": make(tmp_path / "trigger", patient, "20240601", ("CT",), 10, **other),
    }


def test_exactly_the_right_priors_arrive(
    tmp_path: Path, gateway: Gateway, archive: Archive
) -> None:
    studies = studies_of(tmp_path, "4711")
    stranger = make_study(tmp_path / "stranger", "47110", "20230510")
    for study in (*studies.values(), stranger):
        send(study, archive.port, archive.ae_title)
    prefetching(gateway, archive.port, archive.ae_title, RULE).start()
    send(studies["trigger"], gateway.port)
    job = ended_job(gateway)
    assert (job.state, job.reason, job.attempts) == (JobState.DONE, "", 1)
    wanted = studies["near"].uids | studies["far"].uids
    rows = gateway.find()
    assert set(rows) == wanted | studies["trigger"].uids
    assert {rows[uid]["called_ae_title"] for uid in wanted} == {"PrefetchAP"}
    assert [it.study_uid for it in job.progress.studies] == [
        studies["near"].uid,
        studies["far"].uid,
    ]
    assert (job.progress.total("moved"), job.progress.total("here")) == (9, 0)
    own = '{ae="PrefetchAP",process="prefetch_scp"'
    metrics = gateway.metrics()
    assert metrics[f'scai_associations_total{own},result="rejected_limit"}}'] == 0
    assert (
        metrics['scai_prefetch_instances_total{ae="PrefetchAP",process="retriever",result="moved"}']
        == 9
    )

    again = make_study(tmp_path / "again", "4711", "20240602", ("CT",))
    send(again, gateway.port)
    job = ended_job(gateway, 2)
    assert (job.progress.total("moved"), job.progress.total("here")) == (0, 19)
    assert job.progress.completed == 0, "what is here is not moved again"
    send(studies["trigger"], gateway.port)
    send(again, gateway.port)
    assert len(jobs_of(gateway)) == 2, "once for each study"


@pytest.mark.parametrize(
    ("patient", "character_set"),
    [("MÜLLER-7", "ISO_IR 100"), ("患者7", "\\ISO 2022 IR 87")],
)
def test_patient_ids_in_other_character_sets_find_their_studies(
    tmp_path: Path, gateway: Gateway, archive: Archive, patient: str, character_set: str
) -> None:
    studies = studies_of(tmp_path, patient, character_set=character_set)
    for study in studies.values():
        send(study, archive.port, archive.ae_title)
    prefetching(gateway, archive.port, archive.ae_title, RULE).start()
    send(studies["trigger"], gateway.port)
    job = ended_job(gateway)
    assert (job.state, job.reason) == (JobState.DONE, "")
    wanted = [studies["near"].uid, studies["far"].uid]
    assert [it.study_uid for it in job.progress.studies] == wanted


@pytest.mark.parametrize("level", ["series", "image"])
def test_on_lower_levels_only_what_lacks_is_moved(
    tmp_path: Path, gateway: Gateway, archive: Archive, level: str
) -> None:
    studies = studies_of(tmp_path, "4711")
    for study in studies.values():
        send(study, archive.port, archive.ae_title)
    rule = RULE + f'level = "{level}"\nseries_modalities = ["CT"]\nat_most = 1\n'
    prefetching(gateway, archive.port, archive.ae_title, rule).start()
    send(studies["trigger"], gateway.port)
    job = ended_job(gateway)
    assert (job.state, job.reason) == (JobState.DONE, "")
    wanted = set(next(iter(studies["near"].images.values())))
    assert set(gateway.find()) == wanted | studies["trigger"].uids
    assert job.progress.completed == 3


def test_neither_side_disturbs_the_other(
    tmp_path: Path, gateway: Gateway, archive: Archive
) -> None:
    """The archive sends to PrefetchAP while modalities send to SCP_AE as fast as they can."""
    priors = make_study(tmp_path / "prior", "4711", "20230510", ("CT", "MR"), 40)
    send(priors, archive.port, archive.ae_title)
    prefetching(gateway, archive.port, archive.ae_title, RULE).start()
    others = [
        make_study(tmp_path / f"other{number}", f"X{number}", "20240101", ("MR",), 40)
        for number in range(4)
    ]
    ended = threading.Event()

    def keep_sending(study: MadeStudy) -> None:
        while not ended.is_set():
            send(study, gateway.port)

    senders = [threading.Thread(target=keep_sending, args=(study,)) for study in others]
    for sender in senders:
        sender.start()
    try:
        send(make_study(tmp_path / "trigger", "4711", "20240601"), gateway.port)
        job = ended_job(gateway, 1, 60)
    finally:
        ended.set()
        for sender in senders:
            sender.join(60)
    assert (job.state, job.progress.total("moved")) == (JobState.DONE, 80)
    assert set(gateway.find()) >= priors.uids | {uid for it in others for uid in it.uids}
    failures = [row for row in gateway.log() if row["level"] == "error"]
    assert not failures


def test_what_prefetch_ap_does_not_accept_is_named_and_the_rest_comes(
    tmp_path: Path, gateway: Gateway, archive: Archive
) -> None:
    """A prior whose report is a structured one, of a class that is on no list of ours."""
    studies = studies_of(tmp_path, "4711")
    for study in studies.values():
        send(study, archive.port, archive.ae_title)
    report = pydicom.dcmread(next(studies["near"].directory.glob("*.dcm")))
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = BASIC_TEXT_SR
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    report.SeriesInstanceUID, report.Modality = generate_uid(), "SR"
    report_directory = tmp_path / "report"
    report_directory.mkdir()
    report.save_as(report_directory / "1.dcm")
    made = MadeStudy(report_directory, studies["near"].uid, "4711", "20230510")
    send(made, archive.port, archive.ae_title)
    prefetching(gateway, archive.port, archive.ae_title, RULE).start()
    send(studies["trigger"], gateway.port)
    job = ended_job(gateway)
    assert (job.state, job.attempts) == (JobState.INCOMPLETE, 1), job.reason
    assert job.progress.missing == [str(report.SOPInstanceUID)]
    assert job.progress.total("moved") == 9
    notes = "; ".join(job.progress.notes)
    assert "PrefetchAP does not accept" in notes
    assert "what is missing is of modality SR" in notes
