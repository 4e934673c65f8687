"""What writes documents from the code and compares the native stub with the module.

Promises: `docs/configuration.md` is exactly what the settings say of themselves; the check fails
when it is not.
Never: is used by the running product.
Read first: `reference.py`; `native_stub.py` for `native/_core.pyi`.
Invariants: every example in the reference is read by a test.
"""
