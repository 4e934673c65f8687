"""Parts of the product set up for a test: a gateway, a spool, an outbox, an indexer and more.

What a rig starts ends with it.
"""
