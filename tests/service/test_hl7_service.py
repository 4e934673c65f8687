"""HL7 messages and the running service: a hospital's feed beside DCMTK's storescu and storescp."""

import itertools
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from engine import limits
from tests.material.waiting import eventually, free_ports
from tests.peers.mllp import Mllp, asked_by_library, code_of
from tests.peers.receivers import Storescp, remote
from tests.rigs.dcmtk_store import store
from tests.rigs.gateway import Gateway
from tests.rigs.hl7_messages import adt, built, order, pid
from tests.rigs.secured import SecuredGateway

pytestmark = pytest.mark.process
_numbers = itertools.count()


class Image(NamedTuple):
    """One CT: of whom, under which UIDs."""

    sop: str
    patient: str
    study: str = "1.2"
    series: str = "1.3"


def save(image: Image, directory: Path, **more: str) -> Path:
    """Its file; `more` attributes by keyword."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, image.sop
    data.PatientID, data.PatientName = image.patient, f"{image.patient}^NAME"
    data.StudyInstanceUID, data.SeriesInstanceUID = image.study, image.series
    data.Modality = "CT"
    for keyword, text in more.items():
        setattr(data, keyword, text)
    path = directory / f"{image.sop}.dcm"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    return path


class Hospital(Gateway):
    """A service that takes messages."""

    def __init__(self, directory: Path, **more: object) -> None:
        (self.hl7_port,) = free_ports(1)
        hl7 = {"enabled": True, "port": self.hl7_port, "address": "127.0.0.1", **more}
        super().__init__(directory, {"hl7": hl7})

    def sender(self) -> Mllp:
        return Mllp(("127.0.0.1", self.hl7_port))

    def put(self, *images: Image) -> None:
        """By DCMTK's storescu."""
        store(self, *(save(image, self.directory) for image in images))

    def patients(self) -> dict[str, tuple[str, str]]:
        """SOP Instance UID -> (Patient ID, name) that are shown."""
        rows = self.find()
        return {uid: (row["patient_id"], row["patient_name"]) for uid, row in rows.items()}


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path / "hospital")
    yield made
    made.close()


def update(patient: str, name: str, **options: str) -> bytes:
    return adt("A08", pid(patient, name), control_id=f"U{next(_numbers)}", **options)


def merge(prior: str, into: str, name: str, **options: str) -> bytes:
    number = f"X{next(_numbers)}"
    return adt("A40", pid(into, name), f"MRG|{prior}", control_id=number, **options)


def test_corrections_are_here_when_the_answer_is(hospital: Hospital) -> None:
    """And after the machine's end in that moment, as far as we can see it: all is killed."""
    hospital.start()
    hospital.put(Image("1.4.1", "ANNA"), Image("1.4.2", "BERTA"))
    hospital.find()  # waits until both are in the index
    with hospital.sender() as sender:
        assert sender.ask(update("ANNA", "NEW^ANNA")) == "AA"
        hospital.kill_everything()
    hospital.start()
    assert hospital.patients() == {"1.4.1": ("ANNA", "NEW^ANNA"), "1.4.2": ("BERTA", "BERTA^NAME")}
    shown = hospital.command("edit", "--patient", "ANNA", "--history")
    assert "RIS/HOSP" in shown.stdout
    again = asked_by_library(
        ("127.0.0.1", hospital.hl7_port),
        built("ADT_A01", "ADT^A08^ADT_A01", {"pid.pid_3": "BERTA", "pid.pid_5": "NEW^BERTA"}),
    )
    assert again == "AA"
    assert hospital.patients()["1.4.2"] == ("BERTA", "NEW^BERTA")
    log = hospital.log_file.read_text()
    for secret in ("NEW^ANNA", "ANNA^NAME", "NEW^BERTA", "BERTA^NAME"):
        assert secret not in log
    samples = hospital.metrics()
    (counted,) = (
        value for name, value in samples.items() if 'kind="update"' in name and '"AA"' in name
    )
    assert counted == 1, "since this service began"
    assert "confined" in {line.get("event") for line in hospital.log() if line["process"] == "hl7"}


def test_kanji_from_message_to_receiver(hospital: Hospital, tmp_path: Path) -> None:
    receiver = Storescp(tmp_path / "receiver")
    try:
        add_route(hospital, receiver)
        hospital.start()
        name = "山田^太郎^^^^^L^I~YAMADA^TARO^^^^^L^A"
        with hospital.sender() as sender:
            options = {"character_set": "~ISO IR87", "codec": "iso2022_jp"}
            assert sender.ask(update("ANNA", name, **options)) == "AA"
        hospital.put(Image("1.4.1", "ANNA"))
        hospital.wait_settled(30, 1)
        (path,) = receiver.kept().values()
        sent = pydicom.dcmread(path)
        assert str(sent.PatientName) == "YAMADA^TARO=山田^太郎"
    finally:
        receiver.close()


def add_route(hospital: Hospital, receiver: Storescp) -> None:
    known = remote("pacs", receiver)
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in known.items())
    with hospital.config_file.open("a") as file:
        file.write(f'\n[[remotes]]\n{text}\n[[rules]]\nname = "all"\nto = ["pacs"]\n')


def test_a_merge_while_images_of_both_arrive_and_are_sent(
    hospital: Hospital, tmp_path: Path
) -> None:
    """Whatever left carries one person's identifier and name, and after the answer the survivor's;
    a third patient under the same Study UID is never touched."""
    receiver = Storescp(tmp_path / "receiver")
    count = 40
    uids = {
        patient: [f"1.{number}.{n}" for n in range(count)]
        for number, patient in enumerate(("ANNA", "BERTA", "CARLA"), 4)
    }
    try:
        add_route(hospital, receiver)
        hospital.start()
        merged = threading.Event()

        def modality(patient: str) -> None:
            for begin in range(0, count, 8):
                if begin >= 24:
                    merged.wait(60)
                part = uids[patient][begin : begin + 8]
                hospital.put(
                    *(
                        Image(uid, patient, "1.2", f"1.3.{list(uids).index(patient)}")
                        for uid in part
                    )
                )

        threads = [threading.Thread(target=modality, args=(patient,)) for patient in uids]
        for thread in threads:
            thread.start()
        eventually(lambda: len(receiver.kept()) >= 3, 60, "some are sent")
        with hospital.sender() as sender:
            assert sender.ask(update("BERTA", "OF^BERTA", moment="20260110120000")) == "AA"
            assert sender.ask(merge("ANNA", "BERTA", "OF^BERTA", moment="20260110120001")) == "AA"
            answered = set(receiver.kept())
            merged.set()
            assert sender.ask(update("ANNA", "LATE^ANNA", moment="20260110120000")) == "AA"
        for thread in threads:
            thread.join(120)
        hospital.wait_settled(90, 3 * count)
        kept = receiver.kept()
        assert len(kept) == 3 * count
        whose = {uid: patient for patient, own in uids.items() for uid in own}
        right = {"ANNA": ("BERTA", "OF^BERTA"), "BERTA": ("BERTA", "OF^BERTA")}
        before = {patient: (patient, f"{patient}^NAME") for patient in uids}
        late = {uid for own in uids.values() for uid in own[24:]}
        for uid, path in kept.items():
            sent = pydicom.dcmread(path, stop_before_pixels=True)
            got = (str(sent.PatientID), str(sent.PatientName))
            patient = whose[uid]
            allowed = {right.get(patient, before[patient])}
            if uid not in late:  # sent before or after: whole in any case
                allowed |= {before[patient]}
            assert got in allowed, (uid, got, uid in answered)
        shown = hospital.patients()
        assert {shown[uid] for uid in (*uids["ANNA"], *uids["BERTA"])} == {("BERTA", "OF^BERTA")}
        assert {shown[uid] for uid in uids["CARLA"]} == {("CARLA", "CARLA^NAME")}
    finally:
        receiver.close()


def test_an_order_ahead_of_its_images(hospital: Hospital, tmp_path: Path) -> None:
    hospital.start()
    with hospital.sender() as sender:
        assert sender.ask(order("ANNA", "A1", "CT HEAD", control="NW")) == "AA"
    more = {"AccessionNumber": "A1", "StudyDescription": "raw"}
    store(hospital, save(Image("1.4.1", "ANNA"), tmp_path, **more))
    assert hospital.find()["1.4.1"]["study_description"] == "CT HEAD"


def test_what_the_listener_answers(hospital: Hospital) -> None:
    hospital.start()
    with hospital.sender() as sender:
        sender.send(b"nothing of HL7")
        answer = sender.answer()
        assert code_of(answer) == "AR"
        sender.send(adt("A08", pid("", "A")))
        answer = sender.answer()
        assert code_of(answer) == "AE"
        assert str(answer.segment("MSA")[2]) == "M1"
        assert str(answer.segment("ERR")[2]) == "PID^1^3"
        assert sender.ask(adt("A01", pid("1"))) == "AR"
        # Many at once are answered each, in their order.
        messages = [update("ANNA", f"N{number}") for number in range(30)]
        sender.send(*messages)
        assert [code_of(sender.answer()) for _ in messages] == ["AA"] * 30
        # Who sends all he has and then hears only is answered as well.
        sender.send(update("ANNA", "LAST"))
        sender.socket.shutdown(socket.SHUT_WR)
        assert code_of(sender.answer()) == "AA"
        assert sender.closed()
    with hospital.sender() as sender:
        sender.socket.sendall(b"GET / HTTP/1.1\r\n" * 100)
        assert sender.closed()


def test_silent_connections_make_room(hospital: Hospital) -> None:
    hospital.start()
    held = [hospital.sender() for _ in range(limits.hl7_connections_max)]
    try:
        eventually(
            lambda: hospital.metrics()[OPEN] == limits.hl7_connections_max, 10, "all are counted"
        )
        for one in (held[0], *held[2:]):
            assert one.ask(update("A", "A")) == "AA"  # the second is the most silent now
        with hospital.sender() as one_more:
            assert one_more.ask(update("A", "B")) == "AA"
            assert held[1].closed()
            assert held[0].ask(update("A", "C")) == "AA"
    finally:
        for one in held:
            one.socket.close()


OPEN = 'scai_hl7_connections_open{ae="",process="hl7"}'


def test_who_may_send(tmp_path: Path) -> None:
    made = Hospital(tmp_path / "a", allowed_hosts=["10.0.0.0/8"])
    try:
        made.start()
        with made.sender() as sender:
            assert sender.closed()
        text = made.config_file.read_text()
        made.config_file.write_text(
            text.replace('allowed_hosts = ["10.0.0.0/8"]', 'senders = ["RIS/HOSP"]')
        )
        assert made.command("reload").returncode == 0
        with made.sender() as sender:
            assert sender.ask(update("A", "B")) == "AA"
            assert sender.ask(update("A", "B", sender="RIS|ELSEWHERE")) == "AR"
    finally:
        made.close()


def test_a_worker_that_dies_is_replaced_and_nothing_is_answered_twice(hospital: Hospital) -> None:
    hospital.start()
    message = update("ANNA", "NEW^ANNA")
    with hospital.sender() as sender:
        assert sender.ask(message) == "AA"
    pid_of = hospital.pid("hl7")
    subprocess.run(["kill", "-9", str(pid_of)], check=True)
    eventually(lambda: hospital.processes()["hl7"] not in (0, pid_of), 10, "it is replaced")
    with hospital.sender() as sender:
        sender.send(message)
        answer = sender.answer()
        assert (code_of(answer), "taken before" in str(answer)) == ("AA", True)


def _crowd(made: SecuredGateway, port: int, context: ssl.SSLContext) -> None:
    """More begin a handshake than may at a time: the oldest make room, and a message gets through
    before the others' time is over."""
    crowd = [
        socket.create_connection(("127.0.0.1", port)) for _ in range(limits.hl7_handshakes_max + 8)
    ]
    try:
        for silent in crowd[:8]:
            silent.settimeout(limits.tls_handshake_s / 2)
            assert silent.recv(1) == b"", "the oldest are closed at once"
        with Mllp(("127.0.0.1", port), context) as sender:
            assert sender.ask(update("A", "E")) == "AA"
        crowd[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            crowd[-1].recv(1)
    finally:
        for silent in crowd:
            silent.close()
    lines = [line for line in made.log() if line["event"] == "hl7_crowded_out"]
    assert len(lines) == 9
    metric = 'scai_hl7_connections_total{ae="",process="hl7",result="crowded_out"}'
    assert eventually(lambda: made.metrics()[metric] == 9, 10, "it is counted")


def test_messages_over_tls(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    hl7 = {"enabled": True, "port": port, "address": "127.0.0.1", "tls": True}
    made = SecuredGateway(tmp_path / "a", {"hl7": hl7})
    try:
        made.start()
        worker = made.pid("hl7")
        context = made.client_context()
        context.check_hostname = False
        with Mllp(("127.0.0.1", port), context) as sender:
            assert sender.ask(update("A", "B")) == "AA"
        with Mllp(("127.0.0.1", port)) as plain:
            plain.send(update("A", "B"))
            assert plain.closed()
        stranger = ssl.create_default_context()
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        with suppress(OSError), Mllp(("127.0.0.1", port), stranger) as nobody:
            nobody.send(update("A", "C"))
            assert nobody.closed()
        silent = socket.create_connection(("127.0.0.1", port))
        with Mllp(("127.0.0.1", port), context) as sender:
            assert sender.ask(update("A", "D")) == "AA"
        silent.close()
        _crowd(made, port, context)
        assert made.processes()["hl7"] == worker, "no peer's handshake ends the process"
        lines = [line for line in made.log() if line["process"] == "hl7"]
        assert not [line for line in lines if line["level"] == "error"]
        assert len([line for line in lines if line["event"] == "hl7_message"]) == 3
    finally:
        made.close()
