"""The supervisor: owns configuration, listening sockets, shared memory and children.

Promises: a dead or hung child is replaced within a second while its port stays open. A new
configuration is used whole or not at all. Every child ends when the supervisor ends.
Never: touches an instance. Never kills a process that only got no processor (`machine.py` tells the
two apart).
Read first: `supervisor.py`, the duty cycle; then `process.py` (one child's life) and `plan.py`
(from configuration to specs).
Invariants: one service on one data directory, by a lock. What outlives a worker (sockets, rings,
counters) is made here and inherited.
"""
