"""A scripted archive for prefetching: what it has, what it answers, what it was asked."""

import io
from collections.abc import Callable, Iterable

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from tests.material import wire
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import Request
from tests.rigs.archives import MadeStudy, send
from tests.rigs.gateway import Gateway

RULE = "quiet_s = 0\n"
SOON = "retry_count = 1\napplication_timeout_s = 2\n"
PENDING, SUCCESS = 0xFF00, 0x0000
# The settings of a gateway that soon gives up on an archive.
IMPATIENT = {
    "query_retrieve_scu": {"query_timeout_s": 2, "retrieve_timeout_s": 3},
    "send": {"retry_pause_s": 1},
}


def identifier(**values: str | list[str]) -> bytes:
    """A C-FIND answer in implicit VR, which is what the scripted peer accepts first."""
    from pydicom.filebase import DicomBytesIO

    data_set = Dataset()
    for keyword, value in values.items():
        setattr(data_set, keyword, value)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_dataset(buffer, data_set)
    return buffer.getvalue()


def asked(request: Request) -> Dataset:
    """The identifier of a request."""
    assert request.data is not None
    return read_dataset(io.BytesIO(request.data), True, True)


class Shelf:
    """What a scripted archive has, and what it does with a C-MOVE."""

    def __init__(self, study: MadeStudy, gateway: Gateway) -> None:
        self.study = study
        self.gateway = gateway
        self.delivers: Callable[[], None] = lambda: send(study, gateway.prefetch_port, "PrefetchAP")
        self.find_status = SUCCESS
        self.pending_status = PENDING
        self.move_status = SUCCESS
        self.comment = b""
        self.moves: list[tuple[str, str]] = []  # (level, destination)
        self.queries = 0

    def matches(self, request: Request) -> Iterable[tuple[int, bytes | None]]:
        """The answers to a C-FIND."""
        self.queries += 1
        keys = asked(request)
        study, level = self.study, keys.QueryRetrieveLevel
        if level == "STUDY":
            found = identifier(
                PatientID=study.patient_id,
                StudyDate=study.date,
                ModalitiesInStudy=["CT"],
                StudyInstanceUID=study.uid,
            )
            yield self.pending_status, found
            yield self.find_status, None
            return
        for series, images in study.images.items():
            if level == "SERIES":
                yield PENDING, identifier(Modality="CT", SeriesInstanceUID=series)
            elif keys.SeriesInstanceUID == series:
                for image in images:
                    yield PENDING, identifier(SOPInstanceUID=image)
        yield SUCCESS, None

    def moved(self, request: Request) -> Iterable[tuple[int, dict[int, bytes]]]:
        """The answers to a C-MOVE."""
        self.moves.append((asked(request).QueryRetrieveLevel, request.text(0x0600)))
        count = len(self.study.uids)
        yield PENDING, {0x1020: wire.us(count), 0x1021: wire.us(0)}
        if self.move_status == SUCCESS:
            self.delivers()
        if self.comment:
            yield self.move_status, {0x0902: self.comment}
            return
        counts = {0x1021: wire.us(count), 0x1022: wire.us(0), 0x1023: wire.us(0)}
        yield self.move_status, counts

    def scp(self, encode: Callable[[dict[int, bytes]], bytes] = wire.joined) -> Scp:
        """It as a script; its responses' command sets are written by `encode`."""
        return Scp(matches=self.matches, moves=self.moved, encode=encode)
