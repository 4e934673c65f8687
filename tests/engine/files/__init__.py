"""File heads and the tree of stored files."""
