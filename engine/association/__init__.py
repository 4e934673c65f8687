"""One association as a pure machine: the acceptor's side and the requestor's.

Promises: inputs in, effects out. For any row of inputs the machine stands in a state of PS3.8 table
9-10 and has said what goes on the wire and what becomes of the message under way. The status of a
C-STORE-RSP is chosen in `exchange.py`; a disk that failed brings its own (`engine/errors.py`).
Never: sees a socket or a clock; an import contract holds it. Nothing that a peer sends ends a
process.
Read first: `events.py`, the whole interface; then `acceptor.py` and, inside it, `exchange.py`. For
associations that we open: `requestor.py`.
Invariants: one message at a time, since one outstanding operation is what was negotiated. The
templates of `store_lane.py` are made by the codecs of the long way, so both ways write equal bytes.
"""
