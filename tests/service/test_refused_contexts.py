"""A refused presentation context is named where operators look: log, metrics, `scai status`."""

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from tests.material.waiting import eventually
from tests.rigs.gateway import Gateway

pytestmark = pytest.mark.process
_CR = "1.2.840.10008.5.1.4.1.1.1"
_JPEG_2000 = "1.2.840.10008.1.2.4.90"
_PLAIN = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"]
_SYNTAXES = (
    "Implicit VR Little Endian (1.2.840.10008.1.2), Explicit VR Little Endian (1.2.840.10008.1.2.1)"
)
_PRIVATE = "1.2.392.200036.9125.1.1.2"


def test_refused_contexts_are_named(gateway: Gateway) -> None:
    peer = AE("CR_ROOM_3")
    peer.add_requested_context(Verification)
    peer.add_requested_context(_CR, _PLAIN)
    peer.add_requested_context(CTImageStorage, _JPEG_2000)
    peer.add_requested_context(_PRIVATE, _PLAIN)
    association = peer.associate("127.0.0.1", gateway.port, ae_title="SCP_AE")
    assert association.is_established
    association.release()

    lines = eventually(
        lambda: [line for line in gateway.log() if line.get("calling_ae") == "CR_ROOM_3"], 5
    )
    (accepted,) = [line for line in lines if line["event"] == "association_accepted"]
    assert accepted["contexts_refused"] == 3
    assert accepted["refused"] == (
        f"Computed Radiography Image Storage ({_CR}) in {_SYNTAXES}: the class is not among "
        f"`contexts`; CT Image Storage ({CTImageStorage}) in JPEG 2000 Lossless ({_JPEG_2000}): "
        f"the class is taken, but in none of these; {_PRIVATE} in {_SYNTAXES}: the class is not "
        "among `contexts`"
    )
    counted = {
        name: value
        for name, value in gateway.metrics().items()
        if name.startswith("scai_contexts_refused_total") and value
    }
    assert set(counted.values()) == {1}
    for label in ("Computed Radiography Image Storage", "CT Image Storage", "other"):
        assert any(f'sop_class="{label}"' in name for name in counted), label
    assert not any(_PRIVATE in name for name in counted), "no label is a peer's choice"
    shown = gateway.command("status").stdout
    assert "storage_scp: last refused" in shown
    assert "a presentation context of CT Image Storage" in shown or "no storage class" in shown
