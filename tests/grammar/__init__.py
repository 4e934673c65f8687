"""Data sets made from the grammar of PS3.5 and PS3.10, and what becomes of them in the product.

`python -m tests.grammar --count 20000 --seed 1` makes so many, regular and odd ones, and tries each
in every way that the product stores and sends it. pydicom's reading says what a data set is; DCMTK
says what may be refused.
Read first: `trials.py` (what has to come of one), then `cases.py` (how one is made).
"""
