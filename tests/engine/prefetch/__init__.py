"""Jobs, rules and retrievals of prefetching, against a scripted archive."""
