"""The proof: units, wire, faults, crashes; run by `python -m tools.check` or pytest alone."""
