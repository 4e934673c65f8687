"""Removals: what goes, what stands against it, and what a crash leaves."""
