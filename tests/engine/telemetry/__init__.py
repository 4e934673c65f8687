"""Counters in shared memory, the table of metrics, log lines."""
