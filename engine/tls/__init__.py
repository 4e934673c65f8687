"""What TLS is made of: key, chain, trust and profile, read from the stores and found good.

Promises: exactly the suites of the profile, or a refusal with words. What a strict peer would
refuse without saying why is refused here first, with the reason and what to do.
Never: falls back to another suite, another version or plain text. Never writes a key or shows it:
the key is in memory only and has no repr.
Read first: `profiles.py`, the profiles as data; then `material.py`, which reads the stores, and
`chain.py`, which judges them. `client.py` makes the context of our connections; the listener's is
in `native/src/tls/`.
Invariants: what OpenSSL made of a setting is read back and compared, because every way of setting
suites can fail silently.
"""
