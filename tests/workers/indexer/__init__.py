"""The indexer's process loop over a real journal, index and counters."""
