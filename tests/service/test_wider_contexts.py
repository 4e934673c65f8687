"""More than the conformance statement's table, by choice: what is added is accepted, the rest
stays."""

from collections.abc import Callable
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process
_CR = "1.2.840.10008.5.1.4.1.1.1"
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_JPEG_2000 = "1.2.840.10008.1.2.4.90"


def test_abstract_syntaxes_are_added_to_the_table(
    start_gateway: Callable[..., Gateway],
) -> None:
    added: dict[str, Any] = {
        "storage_scp": {"abstract_syntaxes": ["all-images"], "transfer_syntaxes": [_JPEG_2000]}
    }
    gateway = start_gateway(added)
    peer = AE()
    for syntax in ("1.2.840.10008.1.2", _JPEG_2000):
        peer.add_requested_context(_CR, syntax)
        peer.add_requested_context(CTImageStorage, syntax)
    peer.add_requested_context(_ENCAPSULATED_PDF)
    association = peer.associate("127.0.0.1", gateway.port, ae_title="SCP_AE")
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in association.accepted_contexts
    }
    association.release()
    # The table's own classes keep the table's transfer syntaxes.
    assert accepted == {(_CR, _JPEG_2000), (str(CTImageStorage), "1.2.840.10008.1.2")}


def test_every_storage_class_fits_into_one_association_after_another(
    start_gateway: Callable[..., Gateway],
) -> None:
    gateway = start_gateway({"storage_scp": {"abstract_syntaxes": ["all-storage"]}})
    peer = AE()
    peer.add_requested_context(_ENCAPSULATED_PDF)
    peer.add_requested_context("1.2.840.10008.5.1.4.1.1.88.59")
    association = peer.associate("127.0.0.1", gateway.port, ae_title="SCP_AE")
    assert len(association.accepted_contexts) == 2
    association.release()
