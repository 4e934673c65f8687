"""What is counted and what is logged, by every process in the same way.

Promises: counting is one addition in shared memory. What a process counted outlives it, and its
replacement goes on adding. A log line is whole or missing; what was dropped is counted and told.
Never: blocks a process because a reader is slow. Puts patient data into a line or a label: what
comes in is the caller's to choose, and labels hold nothing that a peer chose.
Read first: `metrics.py`, the table of all numbers; then `counters.py`, the memory they stand in,
and `logs.py`.
Invariants: one writer for each word of the shared segment. Readers and writers compare a digest of
the table, so that two releases never read each other's slots under wrong names.
"""
