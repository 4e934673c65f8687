"""What our own decoder refuses is decoded here, in processes that may die of it.

Promises: whatever a frame does to its decoder, the caller gets its samples or a LocalError with the
reason, within a bounded time and with bounded memory; the next frame is decoded as if nothing had
been.
Never: decodes in the process that asks. Never believes an answer of another size than it asked for.
Read first: `questions.py`, what is said; then `decoders.py`, who asks; `decoder.py`, who answers.
Invariants: one process decodes one frame at a time. Its limits are the kernel's (`RLIMIT_CPU`,
`RLIMIT_AS`), renewed for each frame; who asks keeps the wall time and kills what passes it.
"""
