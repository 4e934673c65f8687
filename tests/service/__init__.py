"""The whole service, started as a user starts it: crashes, power cuts, faults, peers, limits.

These tests open ports and start processes, so they are the slow ones.
"""
