"""Configurations read and refused: every problem at once, with its line."""
