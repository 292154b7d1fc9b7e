"""Sweeps from Python: `sweeps.sweep` and `sweeps.read`, and the process in which a sweep of theirs runs."""
