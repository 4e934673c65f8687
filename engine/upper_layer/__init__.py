"""The upper layer of DICOM (PS3.8): its state table, its PDUs, who is let in, what is proposed.

Promises: bytes and policies come in, values and bytes go out. Whatever a peer sends that does not
fit leaves as PeerError with the source and the reason of the A-ABORT, or as a rejection.
Never: touches a socket, a clock or a thread; an import contract holds it. It knows nothing of DIMSE
messages.
Read first: `table.py`, which is table 9-10 as data; `python -m engine.upper_layer.table` prints it.
Then `pdus.py` and `negotiation.py`.
Invariants: `step()` is the only way from one state to the next. A blank cell of the table is a
fault of ours, never of a peer. A stranger is refused before he can learn which AE titles exist.
"""
