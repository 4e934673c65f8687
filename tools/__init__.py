"""How people use it: the command line, the stats endpoint, the developers' check.

Promises: every outcome is an exit code that `tools/README.md` lists. A fault that the operator can
mend is a message that says where and what to do, and no traceback.
Never: is imported by anything below. Text of peers and files is escaped before a terminal gets it.
Read first: `cli.py`, then a small command such as `commands/reload.py`.
Invariants: a command's module is imported only when the command is called, so that `scai --help` is
quick.
"""
