"""The role retriever: QUERY-RETRIEVE-SCU, one prefetch and one association at a time.

Promises: a job is taken, followed to its proof and written down. After a crash the next process
takes it up again, and what is here already is not moved.
Never: decides what to ask or what counts as an answer; that is `engine/prefetch`. Never leaves an
archive alone with a request: one under way is cancelled when the process has to end.
Read first: `retriever.py`, then `archive.py` (an archive as a job asks it) and `conversation.py`
(one question on one association).
Invariants: the loop only keeps time, and one thread beside it does everything that may wait. Each
query and each retrieval is an association of its own (4.2.5).
"""
