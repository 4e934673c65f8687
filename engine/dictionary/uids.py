"""The few UIDs the protocol core knows by name, and what this implementation calls itself.

Which SOP classes and transfer syntaxes are accepted is configuration, not a constant here.
"""

from typing import Final

application_context: Final = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1, the only one there is
verification: Final = "1.2.840.10008.1.1"
implicit_vr_little_endian: Final = "1.2.840.10008.1.2"
explicit_vr_little_endian: Final = "1.2.840.10008.1.2.1"

# Tables 4.2-5 and 4.2-21 of the conformance statement; sent in every association and written
# into the file meta information of every instance received.
implementation_class: Final = "1.2.392.200036.9116.7.39"
implementation_version: Final = "AP-1.0"


def is_explicit_vr(transfer_syntax: str) -> bool:
    """Whether data elements carry their VR: all but the default transfer syntax do (PS3.5 A)."""
    return transfer_syntax != implicit_vr_little_endian
