"""Retention: which studies go, in which order, and what keeps them."""
