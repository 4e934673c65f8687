"""Backups: one state of the index, and every file that it names, made while the service runs.

Promises: a backup is a data directory at rest (`index/`, `store/`, `outbox/`, `set_aside/`). What
checks one checks the other, and restoring is copying. What was acknowledged before a backup began
is in it. It has its name only once it is whole and on the disk.
Never: changes a file of the data directory, nor a file of an earlier backup: backups share files
that are the same. Never has the journal: what was in it is in the index by then.
Read first: `backup.py`; then `restore.py`.
Invariants: files of the store are replaced and never written to, so a second name for one is a copy
that nothing changes.
"""
