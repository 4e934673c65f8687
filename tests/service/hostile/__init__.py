"""What somebody who means harm may try against the running service, and what must come of it."""
