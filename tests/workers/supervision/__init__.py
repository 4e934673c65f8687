"""The supervisor: replacements, reloads, ends, the watch of the certificate."""
