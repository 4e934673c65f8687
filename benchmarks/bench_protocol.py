"""Guards the protocol's cost in Python: association set-up and the command sets of an instance."""

import ipaddress

from benchmarks.conftest import Guard
from benchmarks.load_wire import associate_request, store_request
from engine.dictionary.contexts import DEFAULT_CONTEXTS
from engine.dimse.commands import Request, encode_pdus, encode_response, store_refusal
from engine.upper_layer.negotiation import AcceptorPolicy, negotiate
from engine.upper_layer.pdus import decode_associate_request, encode_associate_accept

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
REPEATS = 50


def policy() -> AcceptorPolicy:
    networks = (ipaddress.ip_network("127.0.0.0/8"),)
    return AcceptorPolicy("SCP_AE", (), (), networks, dict(DEFAULT_CONTEXTS))


def test_association_set_up(guard: Guard) -> None:
    """A scanner's request with eight contexts: read, decided, answered."""
    contexts = [(2 * number + 1, CT, EXPLICIT) for number in range(8)]
    body = associate_request("SCP_AE", "LOAD", contexts, 16378)[6:]
    rules = policy()

    def set_up() -> None:
        for _ in range(REPEATS):
            accept, accepted = negotiate(decode_associate_request(body), rules, "127.0.0.1")
            encode_associate_accept(accept)
            assert len(accepted.contexts) == 8

    guard(set_up, "python")


def test_command_sets_of_an_instance(guard: Guard) -> None:
    """A C-STORE-RQ read and checked, its response made and cut into PDUs."""
    command = store_request(CT, "2.25.4711.1.100000000")

    def exchange() -> None:
        for _ in range(REPEATS * 4):
            request = Request(command)
            assert not store_refusal(request, CT)
            encode_pdus(1, encode_response(request, 0), 16378)

    guard(exchange, "python")
