"""Attributes, elements, matching: values as text, compared as PS3.4 has it."""
