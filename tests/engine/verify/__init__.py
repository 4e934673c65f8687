"""The check of index and files, and its repairs."""
