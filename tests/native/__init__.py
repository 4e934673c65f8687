"""The native layer through its Python face, and its build."""
