"""Who does it: one module for each kind of process."""
