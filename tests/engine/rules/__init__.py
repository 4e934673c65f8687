"""Conditions, patterns and routing."""
