"""A TOML file, read and judged.

Promises: a configuration is used whole or refused whole. A refusal names everything that is wrong
with it at once, each with its line, what was expected and the word that was probably meant.
Never: changes what is in use. Whoever calls decides when a new configuration takes effect.
Read first: `loading.py`, with `load_config()` and its pure part `parse_config()`; then `reader.py`
(single values) and `checks.py` (what must hold between them).
Invariants: a value in the file goes before the environment, and the environment before the default.
A value that is wrong is reported once and not blamed again by the checks that look at it.
"""
