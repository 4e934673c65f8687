"""A stopped data directory, damaged at random, and what a start makes of it."""
