"""Property tests at random, and what they find written down as explicit examples."""
