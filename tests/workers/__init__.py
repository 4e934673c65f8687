"""Tests of the workers, in their rooms."""
