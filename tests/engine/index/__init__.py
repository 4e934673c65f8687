"""The index: batches, corrections, queries, and reading one's own writes."""
