"""Sweeps from Python: `sweeps.sweep` and `sweeps.read`, and the process in which such a sweep runs."""
