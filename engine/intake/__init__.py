"""From the journals into tree, index, outbox and jobs: what the indexer does, without its process.

Promises: every record that is durable in a journal reaches the tree and the index, and what rules
say of it is queued in the same transaction. Neither lost nor doubled by a crash at any moment.
Never: lets a journal or an incoming file go before a checkpoint has made the placed files durable.
Read first: `intake.py`, the steps and the checkpoint; then `dispatch.py` (rules) and
`prefetched.py` (what was fetched goes on).
Invariants: at any moment the journal still has an instance or the tree has it for good. A step that
failed, and a checkpoint that failed, may be repeated as they are. An instance that is received
again is dispatched again, since its sender may have changed it.
"""
