"""Fetching a patient's earlier studies: jobs, the rules that make them, one retrieval to its proof.

Promises: a job carries its whole question, so a change of the rules changes nothing under way. What
an archive promised is compared with what arrived. What is missing is asked for once more, and then
named.
Never: moves what is here or what was not asked for. Never asks what an archive could take for more
than one patient. Never believes a success that the index does not confirm.
Read first: `records.py`, what is kept; then `rules.py` (question), `jobs.py` (its life) and
`retrieval.py` with `plan.py` (its way).
Invariants: one study is one job of a rule. An attempt may be repeated as it is, which is all that a
crash needs. A study counts once as fetched and once as used (`hit_rate.py`).
"""
