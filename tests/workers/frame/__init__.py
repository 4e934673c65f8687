"""The letterbox, the placement on cores, giving way."""
