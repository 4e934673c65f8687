"""The native sources without Python, under sanitizers: fuzz targets, stress programs, runners.

`python -m tests.native.sanitized.fuzz --seconds 60` feeds them invented input.
"""
