"""Frames found, checked and decoded; what is broken is told."""
