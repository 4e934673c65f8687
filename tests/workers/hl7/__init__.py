"""Tests of workers/hl7."""
