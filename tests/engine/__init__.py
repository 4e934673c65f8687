"""Tests of the engine, in its rooms."""
