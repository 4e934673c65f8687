"""Removing what is stored: by hand, by a rule, or because a patient wants it.

Promises: index, files, queue and what is remembered agree after every step, and after a crash in
any of them. What somebody still waits for does not go: an open delivery, a lease, a prefetch.
Never: removes a file whose instance is in the index, or forgets one before it is gone for good.
Read first: `orders.py`, what may be asked for; `obstacles.py`, what stands against it; then
`remover.py`, how it is done.
Invariants: only the holder of the index writer's lock removes. An instance leaves the index in the
transaction that notes its path; the file goes after that is durable, and the note after the file.
Nothing is removed that a replay of a journal could bring back.
"""
