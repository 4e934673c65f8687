"""Tests of engine/hl7."""
