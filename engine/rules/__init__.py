"""The conditions in which rules say what instances they are about, and routing by them.

Promises: one language for routing and for prefetching, checked whole when the configuration is
read. A value that a peer chose cannot make a rule slow or stop it.
Never: asks a clock, the index or a peer. `trial.py` alone reads a file, for `scai rules test`.
Read first: `conditions.py`, the language; `comparisons.py`, what each kind of value can be compared
with; then `routing.py`.
Invariants: conditions of one table must all hold, and any value of an attribute may match. What
does not fit its kind matches nothing and is no error. Patterns read each character once
(`patterns.py`).
"""
