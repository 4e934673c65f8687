"""The index of what is stored: one LMDB environment, its records, its one writer, its queries.

Promises: a commit holds the instances of a batch, everything that was derived from them and the
positions reached in the journals, or nothing of it. A power cut may undo the last commit and
damages none; the journal then gives again what was undone.
A study is one patient's, whatever UIDs senders give.
Never: is the point of durability. Never changes what was received: corrections stand beside it.
Read first: `environment.py`, with LMDB's own rules; then `records.py`, the tables and their keys.
Invariants: LMDB is imported in this room alone, and an import contract holds it. One process writes
at a time; records of instances are the indexer's, under a lock file. No read transaction lasts
longer than one answer or one portion takes.
"""
