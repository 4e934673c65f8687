"""The role hl7: the listener of messages about patients and orders.

Promises: a message is answered AA when what it changes is on the disk, and AE or AR when nothing
was changed. What a peer may hold of ours is bounded: connections, bytes of a message, time for it,
and an answer that is not read.
Never: logs what a message says. Never has two messages under way at once on one connection: the
next one is read when the one before was answered.
Read first: `listener.py` (the process), `handshakes.py` (connections until they are secured), then
`connection.py` (one peer) and `desk.py` (one message after another, in the one thread that may wait
for the disk). What messages mean is `engine/hl7`.
Invariants: the loop moves bytes and keeps time. A reload changes what is taken for messages that
come from then on, and with another key only connections that come from then on.
"""
