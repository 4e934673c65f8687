"""Do index and files agree, and what is done about it where they do not.

Promises: the service may go on while it is checked. What looks wrong is looked at again before it
is reported, since an instance that just arrives has its file some milliseconds before its row.
Never: deletes a file. What is not wanted in the tree is set aside.
Read first: `findings.py`, what can be found and the action for each; then `verify.py` (finds) and
`repair.py` (mends).
Invariants: whoever checks changes neither index nor tree. Repairs are carried out under the index
writer's lock, by the indexer on request or by the command when no service runs, and each looks once
more before it acts.
"""
