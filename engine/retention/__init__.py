"""Which studies may go when the disk fills, in which order, and why: decisions without I/O.

Promises: nothing goes that somebody still waits for, has pinned or has never got, unless the
operator has said after how long it may. Every study that goes has its reason in words.
Never: reads a clock, a disk or an index; they come as arguments, and an import contract holds the
room to it.
Read first: `choice.py`.
Invariants: what was fetched from an archive and never used goes before anything else; what was
never delivered goes last.
"""
