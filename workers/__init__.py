"""Who does it: the processes, each with its loop, its sockets and its threads.

Promises: a worker may be killed at any moment; its replacement goes on where it was, and nothing
that was acknowledged is lost.
Never: decides what DICOM, a rule or a format means. That is the engine's; a worker carries it out.
Read first: `workers/README.md`, who owns what and how a worker lives and dies.
Invariants: every process is started by exec through `__main__.py` and gets all that it needs in one
spec. Roles (receiver, indexer, sender, retriever, supervision) do not import each other.
"""
