"""The retriever against archives that fail in every way: the right end, and the right words."""

import signal
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.prefetch.jobs import Trigger
from engine.prefetch.records import Ask, Job, JobState
from engine.prefetch.store import PrefetchStore
from tests.material import certificates, wire
from tests.material.waiting import eventually, free_ports
from tests.peers.peer_scripts import aborting, rejecting, silent
from tests.peers.scripted_peer import Gone, Link, Script, ScriptedPeer
from tests.rigs.archives import MadeStudy, make_study, prefetching, send
from tests.rigs.gateway import Gateway, toml
from tests.rigs.prefetch_ends import ended_job, jobs_of
from tests.rigs.prefetch_shelf import (
    IMPATIENT,
    PENDING,
    RULE,
    SOON,
    SUCCESS,
    Shelf,
    asked,
    identifier,
)

pytestmark = pytest.mark.process


@pytest.fixture
def gateway(make_gateway: Callable[..., Gateway]) -> Gateway:
    return make_gateway(IMPATIENT)


def run(gateway: Gateway, trigger: MadeStudy, port: int, more: str = SOON) -> Job:
    """Start, trigger, and wait for the job to end."""
    prefetching(gateway, port, "ARCHIVE", RULE, more).start()
    send(trigger, gateway.port)
    return ended_job(gateway)


def test_a_good_archive_is_asked_as_the_tables_say(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    links: list[Link] = []

    def watched(link: Link) -> None:
        links.append(link)
        shelf.scp()(link)

    with ScriptedPeer(watched) as peer:
        job = run(gateway, trigger, peer.port)
        assert (job.state, job.progress.total("moved"), job.reason) == (JobState.DONE, 3, "")
        assert shelf.moves == [("STUDY", "PrefetchAP")]
        assert peer.open_most == 1, "one association at a time"
        assert peer.associations == len(links) == 4, "one for each question"
        assert {link.titles for link in links} == {("ARCHIVE", "PrefetchAP")}
        proposed = [abstract for link in links for abstract, _ in link.contexts.values()]
        assert proposed == ["1.2.840.10008.5.1.4.1.2.2.1"] * 3 + ["1.2.840.10008.5.1.4.1.2.2.2"]
        finds = [asked(request) for request in peer.commands[:3]]
    assert [[it.keyword for it in find] for find in finds] == [
        ["StudyDate", "QueryRetrieveLevel", "ModalitiesInStudy", "PatientID", "StudyInstanceUID"],
        [
            "SeriesDate",
            "SeriesTime",
            "QueryRetrieveLevel",
            "Modality",
            "StudyInstanceUID",
            "SeriesInstanceUID",
        ],
        ["SOPInstanceUID", "QueryRetrieveLevel", "StudyInstanceUID", "SeriesInstanceUID"],
    ]
    move = asked(peer.commands[3])
    assert [it.keyword for it in move] == ["QueryRetrieveLevel", "StudyInstanceUID"]


def test_an_archive_that_is_down_is_tried_again_and_then_failed(
    gateway: Gateway, trigger: MadeStudy
) -> None:
    job = run(gateway, trigger, free_ports(1)[0])
    assert (job.state, job.attempts) == (JobState.FAILED, 2)
    assert "nobody listens" in job.reason
    lines = [row for row in gateway.log() if row["event"] == "prefetch_failed"]
    assert len(lines) == 1
    assert "4711" not in str(lines), "no patient data in the log"


@pytest.mark.parametrize(("character_sets", "asks"), [("", False), ("ISO_IR 192", True)])
def test_a_patient_id_that_no_character_set_of_the_archive_has_is_not_asked(
    gateway: Gateway, shelf: Shelf, character_sets: str, asks: bool
) -> None:
    """It was queued while the archive's settings still allowed more."""
    ask = Ask("archive", "study", "\u260e-4711", "", "", (), (), 9, "1.2.3")
    store = PrefetchStore(gateway.data)
    store.commit(lambda jobs: jobs.trigger(Trigger("priors", ask, "1.2.3.4", "CT", 0, 0, 0), 1))
    store.close()
    with ScriptedPeer(shelf.scp()) as peer:
        prefetching(gateway, peer.port, "ARCHIVE", RULE, SOON)
        text = gateway.config_file.read_text()
        told = f'name = "archive"\ncharacter_sets = ["{character_sets}"]' if character_sets else ""
        gateway.config_file.write_text(text.replace('name = "archive"', told or 'name = "archive"'))
        gateway.start()
        job = ended_job(gateway)
        if asks:
            assert asked(peer.commands[0]).SpecificCharacterSet == "ISO_IR 192"
            return
        assert (job.state, job.attempts) == (JobState.FAILED, 1)
        assert "the Patient ID cannot be said in a character set" in job.reason
        assert peer.associations == 0


@pytest.mark.parametrize(
    ("status", "attempts", "words"),
    [
        (0xA700, 2, "C-FIND on study level answered A700 out of resources"),
        (0xA900, 1, "A900 data set does not match SOP class"),
        (0xC000, 2, "C000 unable to process"),
    ],
)
def test_a_query_that_fails(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy, status: int, attempts: int, words: str
) -> None:
    shelf.find_status = status
    with ScriptedPeer(shelf.scp()) as peer:
        job = run(gateway, trigger, peer.port)
    assert (job.state, job.attempts) == (JobState.FAILED, attempts)
    assert words in job.reason
    assert not shelf.moves


@pytest.mark.parametrize(
    ("status", "attempts", "words"),
    [
        (0xA702, 2, "A702 out of resources: unable to perform sub-operations"),
        (0xA801, 1, "A801 move destination unknown; enter PrefetchAP"),
        (0xA900, 1, "A900 data set does not match SOP class"),
        (0xC001, 2, "C001 unable to process"),
    ],
)
def test_a_retrieval_that_is_refused(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy, status: int, attempts: int, words: str
) -> None:
    shelf.move_status = status
    with ScriptedPeer(shelf.scp()) as peer:
        job = run(gateway, trigger, peer.port)
    assert (job.state, job.attempts) == (JobState.FAILED, attempts)
    assert words in job.reason
    assert job.progress.total("moved") == 0


@pytest.mark.parametrize("operation", ["find", "move"])
@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC001, 0xFE00])
def test_after_a_failure_status_the_association_is_released(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy, operation: str, status: int
) -> None:
    """Table 4.2-43: it is aborted on time-outs only."""
    links: list[Link] = []

    def watched(link: Link) -> None:
        links.append(link)
        shelf.scp()(link)

    setattr(shelf, f"{operation}_status", status)
    with ScriptedPeer(watched) as peer:
        job = run(gateway, trigger, peer.port)
        assert job.state is JobState.FAILED
        assert links
        assert [link.last for link in links] == [wire.RELEASE_RQ] * len(links)


def test_more_answers_than_we_take_are_cancelled_and_the_association_released(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    links: list[Link] = []

    def endless(link: Link) -> None:
        links.append(link)
        link.associate()
        request = link.message()
        assert request is not None
        answer = identifier(StudyInstanceUID="1.2.3")
        for _ in range(20_001):
            link.respond(request, PENDING, answer)
        cancel = link.message()
        assert cancel is not None
        assert cancel.field == wire.C_CANCEL_RQ
        link.respond(request, 0xFE00)
        assert link.receive().kind == wire.RELEASE_RQ
        link.release()

    with ScriptedPeer(endless) as peer:
        job = run(gateway, trigger, peer.port)
    assert (job.state, job.attempts) == (JobState.FAILED, 1)
    assert "more than 20000 answers" in job.reason
    assert links[0].last == wire.RELEASE_RQ


def test_what_an_archive_says_is_shown_and_not_logged(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    shelf.move_status, shelf.comment = 0xA900, b"PATIENT DOE IS\x1b[31m LOCKED"
    with ScriptedPeer(shelf.scp()) as peer:
        job = run(gateway, trigger, peer.port)
    assert "PATIENT DOE" in job.reason
    assert "DOE" not in gateway.log_file.read_text()
    shown = gateway.command("prefetch", "show", "1")
    assert "PATIENT DOE IS\\x1b[31m LOCKED" in shown.stdout


def test_an_archive_that_is_spoken_to_over_tls(
    tmp_path: Path, shelf: Shelf, trigger: MadeStudy, gateway: Gateway
) -> None:
    key, chain = certificates.peer().pem_files(tmp_path, "peer")
    authority = tmp_path / "authority.pem"
    authority.write_bytes(certificates.pem(certificates.root().certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    stores = certificates.tls_settings(tmp_path / "stores")
    gateway.config_file.write_text(gateway.config_file.read_text() + toml({"tls": stores}))
    with ScriptedPeer(shelf.scp(), tls=context) as peer:
        prefetching(gateway, peer.port, "ARCHIVE", RULE, SOON)
        text = gateway.config_file.read_text()
        secured = text.replace(f"port = {peer.port}\n", f"port = {peer.port}\ntls = true\n")
        gateway.config_file.write_text(secured)
        gateway.start()
        send(trigger, gateway.port)
        job = ended_job(gateway)
    assert (job.state, job.reason, job.progress.total("moved")) == (JobState.DONE, "", 3)


def test_a_reload_brings_rules_and_takes_them_away(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    def reload(text: str) -> None:
        gateway.config_file.write_text(text)
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGHUP)

    without = f"{SOON}{gateway.config_file.read_text()}"
    gateway.config_file.write_text(without)
    gateway.start()
    assert "retriever" not in gateway.processes()
    with ScriptedPeer(shelf.scp()) as peer:
        prefetching(gateway, peer.port, "ARCHIVE", RULE)
        reload(gateway.config_file.read_text())
        eventually(lambda: "retriever" in gateway.processes(), 10, "the retriever runs")
        send(trigger, gateway.port)
        assert ended_job(gateway).state is JobState.DONE
        reload(without)
        eventually(lambda: "retriever" not in gateway.processes(), 10, "the retriever ended")


def test_keys_that_are_not_supported_are_told(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    shelf.pending_status = 0xFF01
    with ScriptedPeer(shelf.scp()) as peer:
        job = run(gateway, trigger, peer.port)
    assert (job.state, job.progress.total("moved")) == (JobState.DONE, 3)
    assert any("FF01" in note for note in job.progress.notes)


def between(before: int, script: Script, shelf: Shelf) -> list[Script]:
    """A good archive for so many associations, then another script."""
    return [*(shelf.scp() for _ in range(before)), script]


def hanging(link: Link) -> None:
    """Accepts, takes the request, and says nothing more."""
    link.associate()
    link.message()
    link.hang()


def aborting_in_the_middle(first: int) -> Script:
    """Accepts, answers once, aborts."""

    def script(link: Link) -> None:
        link.associate()
        request = link.message()
        assert request is not None
        data = identifier(StudyInstanceUID="1.2.3") if first == PENDING else None
        link.respond(request, first, data)
        link.abort(2, 6)
        link.hang()

    return script


def answering_another(link: Link) -> None:
    """Answers a request that was never made."""
    link.associate()
    request = link.message()
    assert request is not None
    request.command[0x0110] = wire.us(4711)
    link.respond(request, SUCCESS)
    link.hang()


@pytest.mark.parametrize(
    ("script", "before", "words"),
    [
        (silent, 0, "answer to the association request"),
        (rejecting(1, 1, 7), 0, "called AE title not recognized"),
        (rejecting(2, 3, 2), 0, "local limit exceeded"),
        (aborting(2, 1), 0, "unrecognized PDU"),
        (hanging, 0, "C-FIND: no response within 2 s; the association was aborted"),
        (hanging, 3, "C-MOVE: no response within 3 s; the association was aborted"),
        (aborting_in_the_middle(PENDING), 0, "C-FIND on study level: association aborted"),
        (aborting_in_the_middle(PENDING), 2, "C-FIND on image level: association aborted"),
        (aborting_in_the_middle(PENDING), 3, "C-MOVE on study level: association aborted"),
        (answering_another, 0, "to message 4711"),
        (answering_another, 3, "to message 4711"),
    ],
)
def test_an_association_that_fails(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy, script: Script, before: int, words: str
) -> None:
    attempt = between(before, script, shelf)
    with ScriptedPeer(*attempt, *attempt) as peer:
        job = run(gateway, trigger, peer.port)
    assert job.state is JobState.FAILED
    assert words in job.reason

    def is_logged() -> bool:
        lines = [row for row in gateway.log() if row["event"] == "prefetch_failed"]
        return any(words in line["reason"] for line in lines)

    eventually(is_logged, 10, "the reason is logged")


def test_less_than_promised_is_asked_for_once_more_and_then_named(
    tmp_path: Path, gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    (kept,) = shelf.study.directory.glob("*-003.dcm")
    kept.rename(tmp_path / "kept.dcm")
    with ScriptedPeer(shelf.scp()) as peer:
        job = run(gateway, trigger, peer.port)
    assert (job.state, job.attempts) == (JobState.INCOMPLETE, 1)
    assert job.reason == "promised instances that did not arrive: 1"
    assert shelf.moves == [("STUDY", "PrefetchAP"), ("IMAGE", "PrefetchAP")]
    assert job.progress.missing == [next(iter(shelf.study.images.values()))[2]]
    assert (job.progress.total("moved"), job.progress.total("missing")) == (2, 1)


def test_something_else_than_promised(
    tmp_path: Path, gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    other = make_study(tmp_path / "other", "9999", "20230510")
    shelf.delivers = lambda: send(other, gateway.prefetch_port, "PrefetchAP")
    with ScriptedPeer(shelf.scp()) as peer:
        job = run(gateway, trigger, peer.port)
    assert job.state is JobState.INCOMPLETE
    assert sorted(job.progress.missing) == sorted(shelf.study.uids)
    assert any("of those promised 0 came" in note for note in job.progress.notes)
    assert len(jobs_of(gateway)) == 1, "what arrives at PrefetchAP triggers nothing"


def test_a_slow_retrieval_goes_on_while_bytes_arrive(
    tmp_path: Path, gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    def slowly() -> None:
        files = sorted(shelf.study.directory.iterdir())
        for number, file in enumerate(files):
            part = MadeStudy(tmp_path / f"part{number}", "", "", "")
            part.directory.mkdir()
            file.rename(part.directory / file.name)
            send(part, gateway.prefetch_port, "PrefetchAP")
            threading.Event().wait(1.2)

    shelf.delivers = slowly
    with ScriptedPeer(shelf.scp()) as peer:
        job = run(gateway, trigger, peer.port)
    assert (job.state, job.attempts, job.reason) == (JobState.DONE, 1, "")
    assert job.seconds > 2, "longer than the silence that is allowed"


def test_at_the_end_the_retrieval_is_cancelled_and_taken_up_again(
    gateway: Gateway, shelf: Shelf, trigger: MadeStudy
) -> None:
    cancels: list[bool] = []
    moving = threading.Event()

    def until_cancelled(link: Link) -> None:
        link.associate()
        request = link.message()
        assert request is not None
        if request.field != 0x0021:
            raise Gone
        link.respond(request, PENDING, None, {0x1020: wire.us(3)})
        moving.set()
        cancel = link.message()
        assert cancel is not None
        same = cancel.command[0x0120] == request.command[0x0110]
        cancels.append(cancel.field == wire.C_CANCEL_RQ and same)
        link.respond(request, 0xFE00)
        link.release()

    with ScriptedPeer(*between(3, until_cancelled, shelf), shelf.scp()) as peer:
        more = SOON.replace("1\napp", "1\ndrain_timeout_s = 5\napp")
        prefetching(gateway, peer.port, "ARCHIVE", "quiet_s = 0\n", more)
        text = gateway.config_file.read_text().replace(
            '"retrieve_timeout_s": 2', '"retrieve_timeout_s": 60'
        )
        gateway.config_file.write_text(
            text.replace("retrieve_timeout_s = 2", "retrieve_timeout_s = 60")
        )
        gateway.start()
        send(trigger, gateway.port)
        assert moving.wait(20)
        assert gateway.stop() == 0
        assert cancels == [True]
        (job,) = jobs_of(gateway)
        assert (job.state, job.attempts) == (JobState.WAITING, 0)
        gateway.start()
        job = ended_job(gateway)
        assert (job.state, job.attempts, job.progress.total("moved")) == (JobState.DONE, 1, 3)
