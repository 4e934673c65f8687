"""Associations that we open, with peers that fail in every way."""
