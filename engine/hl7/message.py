"""A message's bytes become its header and the fields of the segments that we look at.

Segments and fields are cut by python-hl7 (docs/decisions/0026-messages-correct-like-the-user.md
says why by that one), escape sequences are resolved here: that library writes the value of one that
it does not know into its log.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple

import hl7

from engine.hl7.characters import codec_of, decoded
from engine.hl7.refusal import ErrorCode, RefusedError
from engine.limits import (
    hl7_control_id_characters_max,
    hl7_segments_max,
    hl7_separators_max,
    hl7_text_characters_max,
)

# Everything that is looked at. Others, which may hold documents, are not even cut into fields.
_SEGMENTS: Final = frozenset({"MSH", "EVN", "PID", "MRG", "PV1", "ORC", "OBR", "IPC", "ZDS"})
_DELIMITED: Final = re.compile(r"[^\w\s]", re.ASCII)
_JIS_ESCAPE: Final = re.compile(rb"\x1b(?:\$[@B]|\$\(D|\([BIJ])")
_MOMENT: Final = re.compile(
    r"(\d{4})(\d{2})?(\d{2})?(?:(\d{2})(\d{2})(?:(\d{2})(?:\.(\d{1,6})\d*)?)?)?([+-]\d{4})?"
)
# 2.10.3: what holds several messages. None of ours would know which of them its answer is about.
_BATCH_HEADERS: Final = ("FHS", "BHS")
_BATCH_TRAILERS: Final = ("BTS", "FTS")
DELETED: Final = '""'  # a value that is to be none, 2.5.3 "null"


class Delimiters(NamedTuple):
    """What MSH-1 and MSH-2 name."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


class Header(NamedTuple):
    """What MSH says, as it was sent: hostile text."""

    delimiters: Delimiters
    sending_application: str = ""
    sending_facility: str = ""
    receiving_application: str = ""
    receiving_facility: str = ""
    message_type: str = ""
    event: str = ""
    control_id: str = ""
    processing_id: str = ""
    version: str = ""
    moment: str = ""  # MSH-7
    codec: str = "ascii"
    names_its_set: bool = False
    batch: str = ""  # FHS or BHS, where it is no message's header

    @property
    def sender(self) -> str:
        """Who the history names: application and facility."""
        return "/".join(filter(None, (self.sending_application, self.sending_facility)))

    @property
    def kind(self) -> str:
        """As tables write it: ADT^A08."""
        return f"{self.message_type}^{self.event}"


class Segment:
    """One segment's fields, by number."""

    def __init__(self, name: str, parsed: hl7.Segment, delimiters: Delimiters, codec: str) -> None:
        self.name = name
        self._parsed = parsed
        self._delimiters = delimiters
        self._codec = codec

    def repetitions(self, field: int) -> list["Repetition"]:
        """Of a field, empty ones left out."""
        if field >= len(self._parsed):
            return []
        found = []
        for repetition in self._parsed[field]:
            components = [repetition] if isinstance(repetition, str) else list(repetition)
            texts = [
                [part] if isinstance(part, str) else [str(text) for text in part]
                for part in components
            ]
            if any(text for parts in texts for text in parts):
                found.append(Repetition(f"{self.name}-{field}", texts, self))
        return found

    def text(self, field: int, component: int = 1) -> str:
        """The first repetition's component; "" if there is none."""
        found = self.repetitions(field)
        return found[0].text(component) if found else ""

    def unescaped(self, text: str, place: str) -> str:
        """Text without escape sequences. RefusedError: one that cannot be resolved."""
        escape = self._delimiters.escape
        if escape not in text:
            return text
        pieces = text.split(escape)
        if len(pieces) % 2 == 0:
            return text  # an escape character that stands alone: it is a character
        resolved = [pieces[0]]
        for sequence, plain in zip(pieces[1::2], pieces[2::2], strict=True):
            resolved += [self._meaning(sequence, place), plain]
        return "".join(resolved)

    def _meaning(self, sequence: str, place: str) -> str:
        field, component, repetition, escape, subcomponent = self._delimiters
        plain = {"F": field, "S": component, "R": repetition, "E": escape, "T": subcomponent}
        if sequence in plain:
            return plain[sequence]
        if sequence in ("H", "N"):
            return ""  # highlighting
        if sequence.startswith("."):
            return " "  # line ends and the like
        if sequence.startswith("X"):
            try:
                return bytes.fromhex(sequence[1:]).decode(self._codec)
            except ValueError:
                pass  # refused with all others
        raise RefusedError(
            "an escape sequence that is not resolved here", ErrorCode.DATA_TYPE, place
        )


class Repetition(NamedTuple):
    """One repetition of a field, its components and their subcomponents."""

    place: str
    parts: list[list[str]]
    segment: Segment

    def text(self, component: int = 1, subcomponent: int = 1) -> str:
        """Without padding and escape sequences; "" if there is none."""
        if component > len(self.parts) or subcomponent > len(self.parts[component - 1]):
            return ""
        raw = self.parts[component - 1][subcomponent - 1]
        return self.segment.unescaped(raw, f"{self.place}.{component}").strip()


class Message(NamedTuple):
    """A message that was understood so far that it can be answered."""

    header: Header
    segments: list[Segment]

    def named(self, name: str) -> list[Segment]:
        """The segments of a name."""
        return [segment for segment in self.segments if segment.name == name]

    def only(self, name: str) -> Segment:
        """The first of a name. RefusedError: there is none."""
        found = self.named(name)
        if not found:
            raise RefusedError("the segment is missing", ErrorCode.REQUIRED_FIELD_MISSING, name)
        return found[0]

    def happened_ns(self, received_ns: int) -> int:
        """When what it tells was recorded: EVN-2, else MSH-7, else when it came. A clock that is
        ahead of ours must not put what comes later in the wrong."""
        events = self.named("EVN")
        moments = [events[0].text(2)] if events else []
        for text in (*moments, self.header.moment):
            found = moment_ns(text)
            if found is not None:
                return min(found, received_ns)
        return received_ns


def read_header(content: bytes, character_set: str) -> Header:
    """MSH alone, so that whatever is wrong with the rest can be answered."""
    line = _JIS_ESCAPE.sub(b"", content.lstrip().split(b"\r", 1)[0].split(b"\n", 1)[0])
    text = line.decode("latin-1")
    if text.startswith(_BATCH_TRAILERS):
        raise _batch(text[:3])
    if not text.startswith(("MSH", *_BATCH_HEADERS)) or not _are_delimiters(text[3:8]):
        raise RefusedError("does not begin with MSH and its delimiters", ErrorCode.DATA_TYPE, "MSH")
    delimiters = Delimiters(*text[3:8])
    field, component, repetition, _, subcomponent = delimiters
    fields = [text[:3], field, *text[4:].split(field)]
    if len(fields[2]) > 5:
        raise RefusedError("more than five encoding characters", ErrorCode.DATA_TYPE, "MSH-2")
    fields += [""] * (20 - len(fields))

    def name(number: int) -> str:
        whole = fields[number].split(repetition)[0].split(component)[0].split(subcomponent)[0]
        return whole.strip()

    if fields[0] in _BATCH_HEADERS:  # FHS-3 to 7 and BHS-3 to 7 are as in MSH, 11 is the identifier
        header = Header(delimiters, name(3), name(4), name(5), name(6))
        return header._replace(control_id=fields[11].strip(), batch=fields[0])
    kind = [*fields[9].split(component), ""][:2]
    header = Header(
        delimiters,
        name(3),
        name(4),
        name(5),
        name(6),
        kind[0].strip(),
        kind[1].strip(),
        fields[10].strip(),
        name(11),
        name(12),
        name(7),
    )
    names = fields[18].split(repetition)
    return header._replace(codec=codec_of(names, character_set), names_its_set=any(names))


def read_message(content: bytes, character_set: str) -> Message:
    """A whole message. RefusedError: what is wrong with it, and where."""
    header = read_header(content, character_set)
    if header.batch:
        raise _batch(header.batch)
    text = decoded(content, header.codec, header.names_its_set)
    lines = [line for line in re.split(r"[\r\n]+", text.strip()) if line[:3] in _SEGMENTS]
    if sum(line.startswith("MSH") for line in lines) > 1:
        text = "a second message begins in this block: send each in one of its own"
        raise RefusedError(text, ErrorCode.DATA_TYPE, "MSH")
    if len(lines) > hl7_segments_max:
        raise RefusedError("has more segments than are looked at", ErrorCode.DATA_TYPE)
    if sum(len(_DELIMITED.findall(line)) for line in lines) > hl7_separators_max:
        raise RefusedError("has more fields than are looked at", ErrorCode.DATA_TYPE)
    try:
        parsed = hl7.parse("\r".join(lines) + "\r")
    except (hl7.HL7Exception, IndexError, KeyError, ValueError) as error:
        raise RefusedError("cannot be cut into segments", ErrorCode.DATA_TYPE) from error
    segments = [
        Segment(str(segment[0]), segment, header.delimiters, header.codec) for segment in parsed
    ]
    # What a sender says of itself may be in its character set, too.
    header = header._replace(
        sending_application=segments[0].text(3), sending_facility=segments[0].text(4)
    )
    _check_header(header)
    return Message(header, segments)


def _batch(name: str) -> RefusedError:
    """What is answered to a batch, or to a part of one."""
    return RefusedError(
        "batches are not taken: send each message by itself, beginning with MSH",
        ErrorCode.UNSUPPORTED_MESSAGE,
        name,
        "AR",
    )


def _are_delimiters(text: str) -> bool:
    return len(text) == 5 and len(set(text)) == 5 and all(map(_DELIMITED.fullmatch, text))


def _check_header(header: Header) -> None:
    required = ((header.message_type, "MSH-9"), (header.event, "MSH-9"), (header.control_id, ""))
    for value, place in required:
        if not value:
            code = ErrorCode.REQUIRED_FIELD_MISSING
            raise RefusedError("must not be empty", code, place or "MSH-10")
    bounds = (
        (header.control_id, hl7_control_id_characters_max, "MSH-10"),
        (header.sending_application, hl7_text_characters_max, "MSH-3"),
        (header.sending_facility, hl7_text_characters_max, "MSH-4"),
    )
    for value, most, place in bounds:
        if len(value) > most or not value.isprintable():
            text = f"at most {most} printable characters"
            raise RefusedError(text, ErrorCode.DATA_TYPE, place)
    if not header.control_id.isascii():
        raise RefusedError("must be ASCII", ErrorCode.DATA_TYPE, "MSH-10")
    if header.processing_id not in ("", "P", "T"):
        raise RefusedError(
            "only P and T are taken", ErrorCode.UNSUPPORTED_PROCESSING, "MSH-11", "AR"
        )
    if header.version and not header.version.startswith("2"):
        text = "only version 2 is taken"
        raise RefusedError(text, ErrorCode.UNSUPPORTED_VERSION, "MSH-12", "AR")


def moment_ns(text: str) -> int | None:
    """A time (TS, DTM) in ns since 1970, None when it is none. One without an offset is of this
    machine's zone, as its sender's is taken to be."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        moment = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0)
        )
        moment += timedelta(seconds=int(second or 0))
        if offset:
            minutes = int(offset[1:3]) * 60 + int(offset[3:])
            sign = -1 if offset[0] == "-" else 1
            moment = moment.replace(tzinfo=timezone(sign * timedelta(minutes=minutes)))
        seconds = int(moment.timestamp())
    except (ValueError, OverflowError, OSError):
        return None
    return max(0, seconds) * 10**9 + int((fraction or "0").ljust(6, "0")) * 1000


def repeated(segments: list[Segment], field: int) -> Iterator[Repetition]:
    """All repetitions of a field in several segments."""
    for segment in segments:
        yield from segment.repetitions(field)
