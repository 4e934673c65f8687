"""What goes out for a stored file: which contexts are offered, and the bytes of its data set.

Promises: the file as it is where the peer takes it. Otherwise the same values in another transfer
syntax, with the user's corrections in their places, made while they are sent and in bounded memory.
Never: changes the stored file. Never sends a name that the character set cannot say: nothing is
sent then, since a name with question marks would be another patient's.
Read first: `outgoing.py`, which the sender calls; then `contexts.py` (what may be offered) and
`reencode.py` (element by element).
Invariants: pieces are given in the order of the data set, and no more than one portion of it is in
memory. Values, private and unknown elements stay what they are.
"""
