"""Faults the kernel may deal out, dealt out on purpose: failing calls and power cuts."""
