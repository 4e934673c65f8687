"""Benchmarks: the product's load test, its comparison with other servers, its guarded ratios."""
