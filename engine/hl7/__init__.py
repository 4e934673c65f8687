"""HL7 version 2: messages about patients and orders, which become corrections like the user's.

Promises: a message is understood as a whole or refused with its reason and place. What it corrects
is committed in one transaction, with history, before it is answered AA. Only the patient named
(issuer and identifier) is touched, whatever UIDs others share with him. An older message never
undoes what a newer one said, and a message that comes again changes nothing.
Never: opens a socket or a file, asks for the time, or logs; `workers/hl7` does. Never believes a
character that the message's character set does not explain.
Read first: `message.py` (bytes to a message), then `instructions.py` (what it wants) and
`applying.py` (what that changes); docs/decisions/0026-messages-correct-like-the-user.md has the
rules and why they are so.
Invariants: framing, message, values, instructions and answer are pure. `applying.py` reads a view
of the index and writes a sheet, which `store.py` carries over in one transaction.
"""
