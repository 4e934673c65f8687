"""What the commands share towards people: options, tables, exit codes, text for the terminal.

Promises: the same words, columns and times in every command; nothing in a cell can steer a
terminal. TOML that is written here can be read again.
Never: writes a password. Knows no command.
Read first: `terminal.py`, then `options.py` and `tables.py`.
Who gave an order is kept by `operators_log.py`.
Invariants: what came from a peer or a file goes through `printable()` or a table.
"""
