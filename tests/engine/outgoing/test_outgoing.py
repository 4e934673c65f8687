"""Which contexts are proposed, which one is used, and that a file goes out as it is if it may."""

from pathlib import Path

import msgspec
import pytest

from engine.errors import LocalError
from engine.files.part10 import part10_head
from engine.outgoing.outgoing import (
    CannotSend,
    FileRange,
    Taken,
    choose,
    open_outgoing,
    proposals,
    taken_by,
)
from engine.settings.entities import Remote
from tests.material import samples, wire
from tests.rigs.outgoing_files import EXPLICIT, IMPLICIT, pieces, sent

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
BASIC_TEXT_SR = "1.2.840.10008.5.1.4.1.1.88.11"
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"


@pytest.mark.parametrize(
    ("sop_class", "stored", "wider", "proposed"),
    [
        (wire.CT_IMAGE, EXPLICIT, (), [EXPLICIT, IMPLICIT]),
        (wire.MR_IMAGE, IMPLICIT, (), [IMPLICIT, EXPLICIT]),
        (wire.CT_IMAGE, JPEG_LOSSLESS, (), [EXPLICIT, IMPLICIT]),
        (wire.CT_IMAGE, JPEG_LOSSLESS, (JPEG_LOSSLESS,), [JPEG_LOSSLESS, EXPLICIT, IMPLICIT]),
        (wire.CT_IMAGE, EXPLICIT, (JPEG_LOSSLESS,), [EXPLICIT, IMPLICIT]),
        (wire.SECONDARY_CAPTURE, IMPLICIT, (), [IMPLICIT]),
        (wire.SECONDARY_CAPTURE, EXPLICIT, (), [IMPLICIT]),
        (wire.SECONDARY_CAPTURE, JPEG_BASELINE, (), [JPEG_BASELINE, IMPLICIT]),
        (wire.SECONDARY_CAPTURE, JPEG_LOSSLESS, (), [IMPLICIT]),
        (BASIC_TEXT_SR, EXPLICIT, (), [IMPLICIT]),
        (BASIC_TEXT_SR, EXPLICIT, (EXPLICIT,), [EXPLICIT, IMPLICIT]),
        (ULTRASOUND, IMPLICIT, (EXPLICIT,), [EXPLICIT]),
        (wire.CT_IMAGE, JPEG_2000, (JPEG_2000,), [JPEG_2000]),
    ],
)
def test_the_original_is_proposed_first(
    sop_class: str, stored: str, wider: tuple[str, ...], proposed: list[str]
) -> None:
    """Table 4.2-33, one presentation context for each transfer syntax."""
    assert proposals(sop_class, stored, Taken(wider)) == [(syntax,) for syntax in proposed]


@pytest.mark.parametrize(
    ("sop_class", "stored", "wider", "words"),
    [
        (wire.ENHANCED_CT, EXPLICIT, (EXPLICIT,), "received only"),
        (ULTRASOUND, IMPLICIT, (), "not among those that are sent"),
        (wire.CT_IMAGE, JPEG_2000, (), "JPEG 2000 Lossless .* cannot be turned into"),
        (wire.CT_IMAGE, BIG_ENDIAN, (), "cannot be turned into"),
        (ULTRASOUND, IMPLICIT, (JPEG_LOSSLESS,), "cannot be turned into any of JPEG Lossless"),
    ],
)
def test_what_cannot_be_sent_says_why(
    sop_class: str, stored: str, wider: tuple[str, ...], words: str
) -> None:
    with pytest.raises(CannotSend, match=words):
        proposals(sop_class, stored, Taken(wider))


@pytest.mark.parametrize(
    ("sop_class", "stored", "taken", "proposed"),
    [
        (wire.ENHANCED_CT, EXPLICIT, Taken((), (wire.ENHANCED_CT,)), [EXPLICIT, IMPLICIT]),
        (wire.ENHANCED_CT, JPEG_LOSSLESS, Taken((), (wire.ENHANCED_CT,)), [EXPLICIT, IMPLICIT]),
        (
            wire.ENHANCED_CT,
            JPEG_LOSSLESS,
            Taken((JPEG_LOSSLESS,), (wire.ENHANCED_CT,)),
            [JPEG_LOSSLESS, EXPLICIT, IMPLICIT],
        ),
        (ULTRASOUND, IMPLICIT, Taken((), (ULTRASOUND,)), [IMPLICIT, EXPLICIT]),
        (ULTRASOUND, JPEG_2000, Taken((JPEG_2000,), (ULTRASOUND,)), [JPEG_2000]),
        # What the table has stays as the table has it.
        (BASIC_TEXT_SR, EXPLICIT, Taken((), (BASIC_TEXT_SR,)), [IMPLICIT]),
        (wire.CT_IMAGE, EXPLICIT, Taken((), (ULTRASOUND,)), [EXPLICIT, IMPLICIT]),
    ],
)
def test_more_classes_than_the_tables_by_choice(
    sop_class: str, stored: str, taken: Taken, proposed: list[str]
) -> None:
    assert proposals(sop_class, stored, taken) == [(syntax,) for syntax in proposed]


def test_a_remote_ae_names_classes_as_people_do() -> None:
    remote = Remote(
        name="pacs",
        ae_title="PACS",
        host="pacs",
        port=104,
        abstract_syntaxes=("Enhanced CT", "US", ULTRASOUND),
        transfer_syntaxes=(JPEG_2000,),
    )
    multi_frame = "1.2.840.10008.5.1.4.1.1.3.1"
    expected = Taken((JPEG_2000,), (wire.ENHANCED_CT, ULTRASOUND, multi_frame))
    assert taken_by(remote) == expected
    everything = taken_by(msgspec.structs.replace(remote, abstract_syntaxes=("all-images",)))
    assert proposals(wire.ENHANCED_CT, EXPLICIT, everything) == [(EXPLICIT,), (IMPLICIT,)]


def test_the_cheapest_of_what_was_accepted() -> None:
    assert choose(JPEG_LOSSLESS, {IMPLICIT, EXPLICIT, JPEG_LOSSLESS}) == JPEG_LOSSLESS
    assert choose(JPEG_LOSSLESS, {IMPLICIT, EXPLICIT}) == EXPLICIT
    assert choose(IMPLICIT, {EXPLICIT}) == EXPLICIT
    with pytest.raises(CannotSend, match=r"accepted JPEG Baseline"):
        choose(IMPLICIT, {JPEG_BASELINE})
    with pytest.raises(CannotSend, match="no transfer syntax that was proposed"):
        choose(IMPLICIT, ())


@pytest.mark.skipif(not samples.available(), reason="DCMTK is not installed")
def test_an_accepted_original_goes_as_it_is() -> None:
    for sample in samples.every_sample():
        with open_outgoing(sample.path) as outgoing:
            assert outgoing.sop_class_uid == sample.sop_class
            assert outgoing.sop_instance_uid == sample.sop_instance
            assert outgoing.transfer_syntax_uid == sample.syntax
            (piece,) = pieces(outgoing, sample.syntax, {})
            assert isinstance(piece, FileRange)
            assert piece.offset + piece.length == outgoing.file_bytes
        content = sample.path.read_bytes()
        assert sent(sample.path, sample.syntax) == content[piece.offset :]


def test_the_file_may_be_replaced_meanwhile(tmp_path: Path) -> None:
    """By another reception of the same instance: the one that was opened goes out."""
    path = tmp_path / "one.dcm"
    path.write_bytes(part10_head(wire.CT_IMAGE, "1.2.3", EXPLICIT, "A") + bytes(range(100)))
    with open_outgoing(path) as outgoing:
        other = tmp_path / "other.dcm"
        other.write_bytes(part10_head(wire.CT_IMAGE, "1.2.3", EXPLICIT, "A") + b"short")
        other.rename(path)
        (piece,) = pieces(outgoing, EXPLICIT, {})
        assert isinstance(piece, FileRange)
        assert piece.length == 100


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    with pytest.raises(CannotSend, match="not there any more"):
        open_outgoing(path)
    head = part10_head(wire.CT_IMAGE, "1.2.3", EXPLICIT, "A")
    no_uid = part10_head("", "1.2.3", EXPLICIT, "A")
    for content, words in (
        (b"", "not a DICOM file"),
        (head[:200], "cut off"),
        (head, "no data set"),
        (no_uid + b"12345678", "no SOP Class UID"),
    ):
        path.write_bytes(content)
        with pytest.raises(LocalError, match=words):
            open_outgoing(path)
    with pytest.raises(LocalError, match="no plain file"):
        open_outgoing(tmp_path)


def test_a_long_head_is_read_whole(tmp_path: Path) -> None:
    """Private file meta information may be long."""
    head = part10_head(wire.CT_IMAGE, "1.2.3", EXPLICIT, "A")
    private = b"\x02\0\x02\x01OB\0\0" + (50_000).to_bytes(4, "little") + bytes(50_000)
    path = tmp_path / "one.dcm"
    group_length = (len(head) - 144 + len(private)).to_bytes(4, "little")
    path.write_bytes(head[:140] + group_length + head[144:] + private + b"12345678")
    with open_outgoing(path) as outgoing:
        assert outgoing.data_set_offset == len(head) + len(private)


def test_what_cannot_be_read_is_not_touched(tmp_path: Path) -> None:
    """Big endian, deflated: as they are or not at all."""
    path = tmp_path / "one.dcm"
    for syntax in (BIG_ENDIAN, "1.2.840.10008.1.2.1.99"):
        path.write_bytes(part10_head(wire.CT_IMAGE, "1.2.3", syntax, "A") + b"12345678")
        assert sent(path, syntax) == b"12345678"
        for target, corrections in ((syntax, {0x00100010: "A"}), (EXPLICIT, {})):
            with (
                open_outgoing(path) as outgoing,
                pytest.raises(CannotSend, match="only be sent as it is"),
            ):
                pieces(outgoing, target, corrections)
