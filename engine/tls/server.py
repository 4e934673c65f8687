"""The TLS context of a listener that the event loop's own TLS serves: HL7's.

The storage AEs' has a native context (native/src/tls), since it moves images; messages are few and
small. Both are made of the same material and hold to the same profile. Suites of DHE need a
listener's own parameters, which Python's ssl module gives no way to choose, so peers get those of
ECDHE and of TLS 1.3.
"""

import ssl
from typing import Final

from engine.tls.client import bare_context, load
from engine.tls.material import TlsMaterial

_MODES: Final = {
    "need": ssl.CERT_REQUIRED,
    "want": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}


def listener_context(material: TlsMaterial) -> ssl.SSLContext:
    """OperatorError: OpenSSL would do anything else than asked."""
    context = bare_context(material.profile, ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = _MODES[material.client_authentication]
    # Sessions are not resumed (docs/decisions/0022-tls-is-checked-after-it-is-set.md).
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    load(context, material)
    return context
