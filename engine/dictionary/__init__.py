"""What DICOM's words mean: UIDs, presentation contexts, attributes, elements, VRs and matching.

Promises: whoever reads or writes a value takes its meaning from here, so that receiver, index,
rules and sender cannot come to disagree about it. Text that cannot be decoded is shown with
replacement characters, and the result says so; an instance is never refused for it.
Never: opens a file or a connection, or knows a setting. pydicom's dictionaries are loaded only at
the first word that is not known here, because loading them is slow.
Read first: `attributes.py`, the attributes that the index keeps; then `matching.py`.
Invariants: a value has one normal form, and both sides of a comparison are brought to it. What the
tables of the conformance statement say (`contexts.py`) is data here, not code.
"""
