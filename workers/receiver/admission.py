"""Between the receiver and the protocol core: the core's policy, and what its notes count as."""

import ipaddress
from collections.abc import Mapping
from typing import Final

from engine.dimse.command_set import CommandOddity
from engine.dimse.commands import CommandField
from engine.errors import AbortSource
from engine.telemetry.metrics import Counter
from engine.upper_layer.negotiation import AcceptorPolicy
from workers.frame.odd_commands import ODD_COMMANDS
from workers.frame.spec import ReceiverSpec


def policy_of(spec: ReceiverSpec) -> AcceptorPolicy:
    """Who is let in and what is accepted, for the protocol core."""
    return AcceptorPolicy(
        own_ae_title=spec.ae_title,
        called_ae_titles=spec.called_ae_titles,
        calling_ae_titles=spec.calling_ae_titles,
        allowed_hosts=tuple(
            ipaddress.ip_network(host, strict=False) for host in spec.allowed_hosts
        ),
        contexts={context.abstract_syntax: context.transfer_syntaxes for context in spec.contexts},
    )


_events: Final[dict[str, Counter]] = {
    "association_accepted": Counter.ASSOCIATIONS_ACCEPTED,
    "association_released": Counter.ASSOCIATIONS_RELEASED,
    "association_aborted_by_peer": Counter.ABORTS_RECEIVED,
    "transport_lost": Counter.CONNECTIONS_LOST,
    "echo_answered": Counter.ECHO_SUCCESS,
    "artim_expired": Counter.ARTIM_EXPIRED,
    "idle_expired": Counter.IDLE_EXPIRED,
}
# PS3.8 table 9-21: (source, reason) of the rejections engine/upper_layer/negotiation.py gives.
_rejections: Final[dict[tuple[object, object], Counter]] = {
    (3, 2): Counter.ASSOCIATIONS_REJECTED_LIMIT,
    (1, 3): Counter.ASSOCIATIONS_REJECTED_CALLING,
    (1, 7): Counter.ASSOCIATIONS_REJECTED_CALLED,
}
_refusals: Final[dict[object, Counter]] = {
    int(CommandField.C_ECHO): Counter.ECHO_FAILURE,
    int(CommandField.C_STORE): Counter.STORE_FAILURE,
}


def counter_of(event: str, fields: Mapping[str, object]) -> Counter | None:
    """What a note of the protocol core counts as, if it is counted."""
    if event == "association_rejected":
        return _rejections.get(
            (fields["source"], fields["reason"]), Counter.ASSOCIATIONS_REJECTED_OTHER
        )
    if event == "association_aborted":
        ours = fields["source"] == AbortSource.SERVICE_USER
        return Counter.ABORTS_SENT_SERVICE if ours else Counter.ABORTS_SENT_PROTOCOL
    if event == "request_refused":
        return _refusals.get(fields["command"], Counter.OTHER_FAILURE)
    if event == "command_odd":
        return ODD_COMMANDS[CommandOddity(str(fields["kind"]))]
    return _events.get(event)
