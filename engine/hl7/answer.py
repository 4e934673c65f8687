"""The acknowledgement of a message (HL7 v2.5.1, 2.9.2 and 2.13): AA, AE or AR, and why.

Pure: the time comes as an argument. What is taken over from the message is its own escaped text.
"""

from datetime import UTC, datetime

from engine.hl7.message import Header
from engine.hl7.refusal import Answer, RefusedError

_OURS = "SCAI"


def answer_to(
    header: Header, answer: Answer, text: str, now_ns: int, refused: RefusedError | None = None
) -> bytes:
    """The whole message, ready to be framed."""
    field, component = header.delimiters.field, header.delimiters.component
    encoding = "".join(header.delimiters[1:])
    moment = datetime.fromtimestamp(now_ns // 10**9, UTC).strftime("%Y%m%d%H%M%S+0000")
    version = header.version or "2.5.1"
    kind = component.join(("ACK", header.event)) if header.event else "ACK"
    own = header.receiving_application or _OURS
    others = (header.receiving_facility, header.sending_application, header.sending_facility)
    names = [_plain(name, header) for name in (own, *others)]
    processing = header.processing_id or "P"
    identifier = f"{answer}{now_ns:x}"[:20]
    lines = [
        ["MSH", encoding, *names, moment, "", kind, identifier, processing, version],
        ["MSA", answer, header.control_id, _plain(text, header)],
    ]
    if refused is not None:
        lines.append(_error(refused, header, version))
    content = "".join(field.join(line) + "\r" for line in lines)
    return content.encode(header.codec, "replace")


def _error(refused: RefusedError, header: Header, version: str) -> list[str]:
    component = header.delimiters.component
    segment, _, number = refused.place.partition("-")
    place = component.join(filter(None, (segment, "1" if segment else "", number)))
    text = refused.code.name.replace("_", " ").capitalize()
    code = component.join((str(int(refused.code)), text, "HL70357"))
    if version < "2.5":  # ERR-1 alone: segment, sequence, field, and the code as subcomponents
        parts = (segment, "1" if segment else "", number.partition(".")[0])
        code = header.delimiters.subcomponent.join((str(int(refused.code)), text))
        return ["ERR", component.join((*parts, code))]
    return ["ERR", "", place, code, "E", "", "", "", _plain(str(refused), header)]


def _plain(text: str, header: Header) -> str:
    """Our own words, without a character that would delimit."""
    delimiters = str.maketrans(dict.fromkeys(header.delimiters, " "))
    return " ".join(text.translate(delimiters).split())
