"""The role sender: STORAGE-SCU, which delivers what stands in the outbox.

Promises: what a peer acknowledged is written down as delivered, however often the disk refuses
meanwhile. What was under way when the process died waits again.
Never: sends what is not leased. Never has more associations at once than `send.associations`, which
is the five of Table 4.2-30 unless the operator chose otherwise.
Read first: `sender.py`, the loop; then `ledger.py` (leases and reports), `lanes.py` and
`attempt.py` (one instance to one destination).
Invariants: the loop only keeps time; lanes are threads, and the ledger is the one thread that may
wait for the disk. Every attempt ends in a `Verdict`. A file in a watched folder is removed only
after its delivery is committed (`folders.py`).
"""
