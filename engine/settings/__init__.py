"""What may be set, as frozen structs that carry their own documentation.

Promises: every setting stands here once, with its default, its range and its words.
`docs/configuration.md` and `scai config show` are made from these structs.
Never: reads a file or the environment, and never compares two settings with each other. Both are
done in `engine/config`.
Read first: `settings.py`, which puts the others together; then `values.py`, the kinds of text.
Invariants: a struct that exists has passed the checks of its single values. What the conformance
statement calls "not configurable" is no field here: see `engine/limits.py`.
"""
