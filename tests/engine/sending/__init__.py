"""The sender's schedule and verdicts, by given moments."""
