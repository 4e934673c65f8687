"""What is to be sent, what could not be, and what was: deliveries, their states and their copies.

Promises: an instance that can be found is one whose deliveries are queued, because both are in one
transaction. What could not be delivered stays, with its reason, until a user decides.
Never: loses a delivery. One leaves by `delivered` and its time in the history, or by `discard`.
Read first: `records.py`, tables, states and keys; then `outbox.py`, what may happen to a delivery.
Invariants: at most one delivery of an instance to a destination is open, and at most one more is
under way. A lease is a committed state, so it outlives its holder and the successor returns it. A
file from outside is copied and durable before the delivery that names it is committed.
"""
