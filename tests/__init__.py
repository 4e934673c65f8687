"""The proof: units, wire, faults, crashes. Rooms mirror the code; run by `python -m tools.check`.

What tests share stands in `material` (bytes and files), `peers` (foreign ends), `rigs` (our parts
set up) and `faults` (the kernel's failures). No test imports a test.
"""
