"""Frames of compressed pixel data: where they lie, whether they can be decoded, and their samples.

Promises: exactly as many samples as the image has, or a LocalError. A stream that was cut off is
never taken for a whole one.
Never: trusts a length, an offset table or a nesting of the file. Never loads pylibjpeg-libjpeg
but in the process that `workers/decoding` starts for it: `libjpeg.py` is for that one alone.
Read first: `encapsulated.py` (PS3.5 A.4), then `transcode.py`; `check.py` is for `scai verify`.
Invariants: every step in a file moves on by a header at least, so the work is bounded by the file.
A frame that no decoder may look at counts as unchecked, never as good.
"""
