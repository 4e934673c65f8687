"""The role receiver: one process for one storage AE and port.

Promises: a C-STORE-RSP with success is sent after the instance is durable, and not before. When the
disk or the index is in trouble instances are refused with a status; none is dropped.
Never: waits in its loop. Never has pixel data in a Python object: bytes go from the kernel to the
ring and on to the disk natively.
Read first: `receiver.py`, then `connection.py`; `host.py` says what the parts ask of each other.
Regular stores are decided natively, in `native/src/reception/`.
Invariants: the core (`engine/association`) decides, this room carries its effects out in their
order. A connection whose notice waits for Python is not read again before.
"""
