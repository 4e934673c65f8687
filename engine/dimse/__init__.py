"""The messages inside an association (PS3.7): command sets, requests, responses and identifiers.

Promises: a message that can be understood for certain is answered with a status. One that leaves in
doubt what comes next aborts the association; the table in `commands.py` says which is which.
Never: keeps an instance or decides what becomes of one. Knows nothing of a connection.
Read first: `commands.py` (what we are asked), then `requests.py` (what we ask) and
`message_reader.py`.
Invariants: everything that is read is bounded before it is kept. What comes from an archive is
parsed by the native scanner, which is made for hostile bytes. `response_template.py` says yes only
to bytes that a full reading would have called a success.
"""
