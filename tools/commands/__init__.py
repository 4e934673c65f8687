"""The commands of `scai`: one file for each, and beside it what belongs to that command alone.

Promises: a command that reads works while the service runs and when it does not. One that changes
something says what it changed, and may be interrupted at any time.
Never: does the work of a worker. It asks the service, changes the outbox or leaves a request.
Read first: `find.py` for one that reads, `queue.py` for one that changes; `tools/cli.py` has the
table of all.
Invariants: a module that `tools/cli.py` names has one click command named `command`, which returns
None or an `Exit`. JSON output has the whole values; tables have them escaped.
"""
