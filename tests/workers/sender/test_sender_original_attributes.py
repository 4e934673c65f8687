"""Only who is to be told gets what corrected elements said before; the ledger knows when it was."""

import os
from contextlib import closing
from pathlib import Path

import pydicom
import pytest

from engine.dictionary.attributes import BY_KEYWORD
from engine.dictionary.patient_mark import patient_mark
from engine.files.tree import StoreTree
from engine.index.corrections import Target
from engine.index.edit import IndexEditor
from engine.index.occasions import Occasion
from engine.index.writer import IndexWriter
from engine.outbox.records import Delivery, NewDelivery, State
from engine.sending.verdict import Ending
from engine.verify.repair import read_entry
from tests.material import wire
from tests.peers.peer_scripts import Scp
from tests.peers.scripted_peer import ScriptedPeer
from tests.rigs.outgoing_files import EXPLICIT, read_back
from tests.rigs.sending import POLICY, ct_files, destination
from tests.rigs.two_patients import CT, Stored, lay
from workers.sender.attempt import Errand, Sender
from workers.sender.ledger import Ledger

NAME = 0x00100010
ANNA = Stored("1.4.1", "ANNA")


@pytest.mark.parametrize("reuses", [False, True])
def test_only_who_is_to_be_told_is(tmp_path: Path, reuses: bool) -> None:
    first, second = ct_files(tmp_path, 2)
    with ScriptedPeer(Scp()) as peer:
        silent = destination(peer.port, reuses=reuses)
        told = silent._replace(original_attributes=True)
        sender = Sender()
        for path, asked in ((first, silent), (second, told)):
            uid = str(pydicom.dcmread(path).SOPInstanceUID)
            delivery = Delivery(
                *(1, "pacs", uid, wire.CT_IMAGE, "1", "2", wire.EXPLICIT, 1, "rule", ""),
                *(State.SENDING, 0, 0, 0, 0),
            )
            occasion = Occasion(1_700_000_000_000_000_000, True, frozenset({NAME}))
            errand = Errand(delivery, str(path), {NAME: "New"}, occasions=(occasion,))
            assert sender.attempt(asked, errand).ending is Ending.DELIVERED
        sender.release()
    plain, telling = (read_back(bytes(one.data), EXPLICIT) for one in peer.stored.values())
    assert "OriginalAttributesSequence" not in plain
    (item,) = telling.OriginalAttributesSequence
    assert item.ModifyingSystem == "SCP_AE"
    assert item.AttributeModificationDateTime == "20231114221320.000000+0000"
    assert str(item.ModifiedAttributesSequence[0].PatientName) == "CompressedSamples^CT1"


def asked_for(file: str) -> NewDelivery:
    return NewDelivery(
        *("PACS", ANNA.sop, CT, ANNA.study, ANNA.series, EXPLICIT, 1, "user", file),
        patient=patient_mark("ANNA", ""),
    )


@pytest.mark.parametrize(("file", "least_ns"), [("", 20), ("0" * 32, 40)])
def test_when_it_was_corrected(tmp_path: Path, file: str, least_ns: int) -> None:
    """Of a stored instance and of a file that an application brought, not before it came."""
    with closing(IndexWriter(tmp_path)) as writer:
        tree = StoreTree(tmp_path)
        lay(tree, ANNA)
        os.utime(tree.absolute(ANNA.plain_path), ns=(20, 20))
        entry = read_entry(tree, ANNA.plain_path)
        writer.commit(lambda batch: batch.put_instance(entry))
        editor = IndexEditor(writer._environment)
        editor.edit(Target("patient", "ANNA"), {BY_KEYWORD["PatientName"]: "New"}, "tester", 10)
        editor.edit(Target("study", "1.2"), {BY_KEYWORD["StudyID"]: "7"}, "tester", 30)
    with closing(Ledger(tmp_path)) as ledger:
        ledger.writer.commit(lambda outbox: outbox.enqueue(asked_for(file), 40))
        ledger.look()
        leased, _ = ledger.keep_books({"PACS": 9}, POLICY)
    (errand,) = leased["PACS"]
    made = {tag: each.when_ns for each in errand.occasions for tag in each.tags}
    assert made == {NAME: least_ns, 0x00200010: max(30, least_ns)}
