"""Associations that we open: blocking, one for a thread.

Promises: every step (name, connection, TLS, association, response, release) has a whole time-out
and ends within it, or in a `ScuFailure` that says in words what failed.
Never: goes on in plain text where TLS was asked for. Never makes a second attempt: whoever calls
decides.
Read first: `association.py`, over `engine/association/requestor.py`; then `transport.py`.
Invariants: an association belongs to one thread, and only `interrupt()` may be called from another.
What is waited for ends at an `Interruption`.
"""
