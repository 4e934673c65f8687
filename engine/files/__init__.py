"""What lies on the disk beside the index: the head of a file, the prologue of a journal record, the
tree of stored files.

Promises: a stored file is a Part-10 file at a path that its UIDs decide; where another patient's
file has that path, a mark stands behind the name. A text that a peer chose becomes a name only if
it is digits and dots; any other becomes a digest.
Never: puts patient data in a path, or copies a peer's preamble. Never believes a length in a file.
Read first: `tree.py`, where an instance lies and how it gets there; then `part10.py`.
Invariants: placing a file may be repeated after a crash, however far it came. Fields of the
prologue (`arrival.py`) are only ever added at the end, with a default, because the next release
reads the journal of this one.
"""
