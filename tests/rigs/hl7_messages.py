"""HL7 messages: made with the builder of hl7apy, another library than the one that reads them, and
by hand, as interface engines write them.
"""

from collections.abc import Mapping

from hl7apy.core import Message as Built
from hl7apy.core import Segment

MOMENT = "20260110120000"


def by_hand(
    kind: str,
    *segments: str,
    control_id: str = "M1",
    moment: str = MOMENT,
    character_set: str = "",
    sender: str = "RIS|HOSP",
    codec: str = "utf-8",
) -> bytes:
    """A message of lines; MSH and, for ADT, EVN are made here."""
    trigger = kind.partition("^")[2]
    header = f"MSH|^~\\&|{sender}|SCAI|PACS|{moment}||{kind}|{control_id}|P|2.5.1"
    lines = [f"{header}||||||{character_set}"]
    if kind.startswith("ADT"):
        lines.append(f"EVN|{trigger}|{moment}")
    return "".join(f"{line}\r" for line in (*lines, *segments)).encode(codec)


def pid(identifier: str, name: str = "", born: str = "", sex: str = "") -> str:
    """A PID segment; `identifier` a whole CX list."""
    return f"PID|1||{identifier}||{name}||{born}|{sex}"


def adt(trigger: str, *segments: str, **options: str) -> bytes:
    """An ADT message by hand."""
    return by_hand(f"ADT^{trigger}", *segments, **options)  # type: ignore[arg-type]


def order(
    patient: str,
    accession: str,
    description: str,
    control: str = "XO",
    uid: str = "",
    **options: str,
) -> bytes:
    """An ORM O01 by hand, as IHE's Scheduled Workflow has it."""
    zds = (f"ZDS|{uid}^^Application^DICOM",) if uid else ()
    return by_hand(
        "ORM^O01",
        pid(patient),
        "PV1|1|I||||||4711^REFERRER^RITA^^^DR",
        f"ORC|{control}|P1|F1",
        f"OBR|1|P1|F1|CTHEAD^{description}^LOCAL||||||||||||||{accession}|RP1|SPS1",
        *zds,
        **options,  # type: ignore[arg-type]
    )


def built(structure: str, trigger: str, fields: Mapping[str, str], control_id: str = "B1") -> bytes:
    """A message by hl7apy's builder: `fields` by names such as `pid.pid_3`."""
    message = Built(structure, version="2.5.1")
    message.msh.msh_3, message.msh.msh_4 = "BUILDER", "LIBRARY"
    message.msh.msh_7, message.msh.msh_9 = MOMENT, trigger
    message.msh.msh_10, message.msh.msh_11 = control_id, "P"
    segments: dict[str, Segment] = {}
    for name, text in fields.items():
        segment, _, field = name.partition(".")
        if segment not in segments:
            segments[segment] = Segment(segment.upper(), version="2.5.1")
            message.add(segments[segment])
        setattr(segments[segment], field, text)
    content: str = message.to_er7()
    return content.encode() + b"\r"
