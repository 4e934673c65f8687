"""From an index of format 1, which release 0.2.0 wrote, to format 2, in one transaction, in place.

Format 1 knew a study by its UID alone, so that two patients with one UID stood in one study, as the
patient who came last. Here look-ups and corrections get the name of their patient; nothing is taken
out. Of several modalities in one value each becomes a word. What stands wrongly together cannot be
told from the index: `meta` "unparted" says up to which study it may be so, and `scai verify` looks
into those files (engine/verify/parting.py).
"""

from collections.abc import Mapping

import lmdb

from engine.index import corrections, records
from engine.index.corrections import Target

Tables = Mapping[str, lmdb._Database]


def migrate(transaction: lmdb.Transaction, tables: Tables) -> None:
    """Does nothing to an index that another process has brought here meanwhile."""
    meta = tables["meta"]
    if transaction.get(b"format", db=meta) != records.FORMAT_BEFORE:
        return
    replaced = set[bytes]()
    for key, value in transaction.cursor(db=tables["studies"]):
        number, study = records.NUMBER.unpack(key)[0], records.decode_study(value)
        transaction.delete(records.uid_key(study.uid), db=tables["study_uids"])
        name = records.study_uid_key(study.uid, study.alone, number)
        packed = records.PAIR.pack(number, study.patient)
        transaction.put(name, packed, db=tables["study_uids"])
        for word in records.modality_words(number, study):
            transaction.put(word, b"", db=tables["words"])
        before = corrections.key_of(Target("study", study.uid))
        after = corrections.key_of(corrections.study_of(study))
        replaced |= _copied(transaction, tables, before, after)
    if transaction.stat(tables["corrections"])["entries"]:
        for _, value in transaction.cursor(db=tables["series"]):
            series = records.decode_series(value)
            stored = transaction.get(records.NUMBER.pack(series.study), db=tables["studies"])
            if stored is None:
                continue  # a damaged index, which `scai verify` tells
            before = corrections.key_of(Target("series", series.uid))
            after = corrections.key_of(corrections.series_of(records.decode_study(stored), series))
            replaced |= _copied(transaction, tables, before, after)
    for key in replaced:
        transaction.delete(key, db=tables["corrections"])
    stored = transaction.get(b"numbers", db=meta)
    if stored is not None:
        unparted = records.NUMBER.pack(records.decode_numbers(stored).study)
        transaction.put(records.UNPARTED, unparted, db=meta)
    transaction.put(b"format", records.FORMAT, db=meta)


def _copied(
    transaction: lmdb.Transaction, tables: Tables, before: bytes, after: bytes
) -> set[bytes]:
    """The key of a correction that now stands under another one as well."""
    stored = transaction.get(before, db=tables["corrections"])
    if stored is None:
        return set()
    transaction.put(after, stored, db=tables["corrections"])
    given = corrections.given_row(after, corrections.decode_values(stored))
    if given is not None and given[1]:
        transaction.put(*given, db=tables["given_studies"])
    return {before}
