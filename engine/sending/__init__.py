"""Who may send next, and what the end of an attempt means: the sender's decisions, without threads.

Promises: no destination waits for the slowness of another. A peer that restarts for a minute does
not use up the attempts of everything that waits for it.
Never: waits, reads a clock or touches the outbox; times come as arguments, and an import contract
holds the room to it.
Read first: `schedule.py`, then `verdict.py`.
Invariants: a destination with work has a lane as long as there are lanes, and one lane is left for
whoever comes next. Every end of an attempt, a response or a failed association, becomes exactly one
`Verdict`.
"""
