"""Messages from bytes: character sets, escape sequences, what is refused and where."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dictionary.attributes import PATIENT_NAME
from engine.hl7.instructions import Terms, Update, instructions_of
from engine.hl7.message import moment_ns, read_message
from engine.hl7.refusal import RefusedError
from tests.rigs.hl7_messages import MOMENT, adt, pid

KANJI = "山田^太郎^^^^^L^I~ヤマダ^タロウ^^^^^L^P~YAMADA^TARO^^^^^L^A"


def name_of(content: bytes, character_set: str = "ASCII") -> str:
    message = read_message(content, character_set)
    (update,) = instructions_of(message, Terms())
    assert isinstance(update, Update)
    return update.values[PATIENT_NAME]


@pytest.mark.parametrize(
    ("named", "codec", "sent", "shown"),
    [
        ("UNICODE UTF-8", "utf-8", KANJI, "YAMADA^TARO=山田^太郎=ヤマダ^タロウ"),
        ("~ISO IR87", "iso2022_jp", KANJI, "YAMADA^TARO=山田^太郎=ヤマダ^タロウ"),
        ("ISO IR87", "iso2022_jp", KANJI, "YAMADA^TARO=山田^太郎=ヤマダ^タロウ"),
        ("ISO IR6~ISO IR87", "iso2022_jp", "山田^太郎", "=山田^太郎"),
        ("8859/1", "latin-1", "MÜLLER^JÖRG", "MÜLLER^JÖRG"),
        ("ASCII", "ascii", "DOE^JANE", "DOE^JANE"),
        ("ISO IR6", "ascii", "DOE^JANE", "DOE^JANE"),
        ("", "ascii", "DOE^JANE", "DOE^JANE"),
    ],
)
def test_character_sets(named: str, codec: str, sent: str, shown: str) -> None:
    content = adt("A08", pid("1", sent), character_set=named, codec=codec)
    assert name_of(content) == shown


def test_two_byte_characters_may_hold_delimiters() -> None:
    # Their second bytes are those of | ^ ~ \ and &, and nothing is cut there.
    name = "".join(bytes((0x1B, 0x24, 0x42, 0x30, byte)).decode("iso2022_jp") for byte in b"|^~\\&")
    content = adt("A08", pid("1", f"{name}^A"), character_set="ISO IR87", codec="iso2022_jp")
    assert name_of(content) == f"={name}^A"


def test_the_set_of_messages_that_name_none() -> None:
    content = adt("A08", pid("1", "MÜLLER^JÖRG"), codec="latin-1")
    assert name_of(content, "8859/1") == "MÜLLER^JÖRG"
    with pytest.raises(RefusedError, match=r"MSH-18: byte \d+ .*hl7.character_set"):
        read_message(content, "ASCII")


def test_a_byte_that_the_set_does_not_explain_refuses_the_message() -> None:
    content = adt("A08", pid("1", "MÜLLER"), character_set="UNICODE UTF-8", codec="latin-1")
    with pytest.raises(RefusedError, match="MSH-18") as caught:
        read_message(content, "ASCII")
    assert "hl7.character_set" not in str(caught.value)


@pytest.mark.parametrize("named", ["unicode_escape", "8859/1~ISO IR87", "ASCII~8859/1", "UTF-16"])
def test_sets_that_are_not_read(named: str) -> None:
    with pytest.raises(RefusedError, match="MSH-18"):
        read_message(adt("A08", pid("1", "A"), character_set=named), "ASCII")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (r"O\T\NEIL^A", "O&NEIL^A"),
        (r"A\S\B^C", "A B^C"),  # a caret is PN's own delimiter
        (r"A\X41\^C", "AA^C"),
        (r"\H\A\N\^C", "A^C"),
        ("DOE^JANE^Q^JR^DR^MD", "DOE^JANE^Q^DR^JR MD"),
        ("VAN DER BERG&VAN DER&BERG^A", "VAN DER BERG^A"),
        ("MAIDEN^A^^^^^M~LEGAL^A^^^^^L", "LEGAL^A"),
        ("ALIAS^A^^^^^A", "ALIAS^A"),
    ],
)
def test_names(sent: str, shown: str) -> None:
    assert name_of(adt("A08", pid("1", sent))) == shown


@pytest.mark.parametrize(
    "sent", [r"\C2842\ ", r"\M244232\ ", r"\Zxx\ ", r"\XZZ\ ", r"\.sp999999999\ "]
)
def test_escape_sequences_that_are_not_resolved(sent: str) -> None:
    content = adt("A08", pid("1", sent + "A"))
    if "sp" in sent:
        assert name_of(content) == "A"  # one blank, however many lines it asks for
    else:
        with pytest.raises(RefusedError, match=r"PID-5\.1"):
            name_of(content)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "MSH"),
        (b"MSH", "MSH"),
        (b"MSH|", "MSH"),
        (b"MSH|^~\\&", "MSH-9"),
        (b"MSH|^^\\&|A", "MSH"),
        (b"MSHA^~\\&|A", "MSH"),
        (b"PID|1", "MSH"),
        (adt("A08", pid("1"), control_id=""), "MSH-10"),
        (adt("A08", pid("1"), control_id="X" * 200), "MSH-10"),
        (adt("A08", pid("1"), sender="A\x07|B"), "MSH-3"),
        (adt("A08", pid("1")).replace(b"|P|2.5.1", b"|D|2.5.1"), "MSH-11"),
        (adt("A08", pid("1")).replace(b"|P|2.5.1", b"|P|3.0"), "MSH-12"),
        (adt("A08"), "PID"),
        (adt("A08", pid("", "A")), "PID-3"),
        (adt("A08", pid("12^^^SSA^SS", "A")), "PID-3"),
        (adt("A08", pid("1" * 65, "A")), "PID-3"),
        (adt("A08", pid("1", "A" * 65)), "PID-5"),
        (adt("A40", pid("1")), "MRG"),
        (adt("A40", pid("1"), "MRG|"), "MRG-1"),
        (adt("A40", pid("1~2"), "MRG|3"), "MRG-1"),
        (adt("A35", pid("1"), "MRG|2||A"), "MRG-1"),
        (adt("A01", pid("1")), "MSH-9"),
        (adt("A08", pid("1", "A")) + adt("A08", pid("2", "B")), "MSH"),
        (b"FHS|^~\\&|A\rBHS|^~\\&|A\r" + adt("A08", pid("1", "A")) + b"BTS|1\rFTS|1\r", "FHS"),
        (b"BHS|^~\\&|A\r" + adt("A08", pid("1", "A")) + b"BTS|1\r", "BHS"),
        (b"BTS|1\r", "BTS"),
        (b"FTS|1\r", "FTS"),
    ],
)
def test_what_is_refused_and_where(content: bytes, place: str) -> None:
    with pytest.raises(RefusedError) as caught:
        instructions_of(read_message(content, "ASCII"), Terms())
    assert caught.value.place == place


@given(st.binary(max_size=400))
def test_no_bytes_do_anything_but_refuse(raw: bytes) -> None:
    for content in (raw, b"MSH|^~\\&|A|B|C|D|2026||ADT^A08|1|P|2.5\rPID|" + raw):
        with suppress(RefusedError):
            instructions_of(read_message(content, "8859/1"), Terms())


def test_a_message_of_nothing_but_delimiters_is_refused_at_once() -> None:
    with pytest.raises(RefusedError, match="more fields"):
        read_message(adt("A08", "PID|" + "^&~|" * 20_000), "ASCII")


def test_documents_in_other_segments_are_not_looked_at() -> None:
    content = adt("A08", pid("1", "A^B"), "OBX|1|ED|" + "^&~|" * 20_000)
    assert name_of(content) == "A^B"


def test_times() -> None:
    assert moment_ns("20260110120000+0100") == moment_ns("20260110110000+0000")
    assert moment_ns("20260110120000.25+0000") == moment_ns("20260110120000+0000") + 250_000_000  # type: ignore[operator]
    for wrong in ("", "2026011", "20261310", "99999999999999", "now"):
        assert moment_ns(wrong) is None
    message = read_message(adt("A08", pid("1")), "ASCII")
    assert message.happened_ns(2**62) == moment_ns(MOMENT)
    assert message.happened_ns(5) == 5, "a clock that is ahead of ours"


def test_five_encoding_characters_of_version_2_7() -> None:
    content = adt("A08", pid("1", "A^B")).replace(b"^~\\&|", b"^~\\&#|", 1)
    assert name_of(content) == "A^B"
