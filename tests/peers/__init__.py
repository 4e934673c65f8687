"""Foreign ends of a connection: scripted peers on raw sockets, DCMTK, Orthanc, pynetdicom, OpenSSL.

A peer speaks `tests/material/wire.py` or a product of others, never the engine's codecs.
"""
