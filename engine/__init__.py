"""What the product is: protocol, formats, rules and stores, in rooms that are stacked.

Promises: every rule of the standard and every format on the disk stands here once. The workers and
the tools only carry out what is decided here.
Never: opens a socket, starts a process, speaks to a person. Where a file does reach the disk or
reads a clock, its first lines say so; protocol and conditions take bytes and moments as arguments.
Read first: `engine/README.md`, the walk of one instance. `limits.py` has every bound with its
reason, `errors.py` the three kinds of fault.
Invariants: rooms import only rooms below them. The import contracts in `pyproject.toml` name the
order, and a new room that stands in none of them fails.
"""
