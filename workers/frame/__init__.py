"""What every process is made of: its spec, its letterbox, the frame around its role, its seat.

Promises: a role gets its spec, its counters, its log and the word when to end, and its outcome
becomes an exit code. When either side of the letterbox dies the other one knows.
Never: reads the configuration; everything is in the spec. Never lets a key touch a disk
(`tls_handover.py`).
Read first: `spec.py`, what a process is told; then `child.py`, the frame, and `control.py`.
Invariants: one message of the letterbox is one packet, bounded, whole or not at all. A loop that
does not turn does not beat. Only the fields that `CHANGEABLE` names change in a running process.
"""
