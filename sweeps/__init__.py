"""Enumerate, plan, dispatch and record sweeps of benchmark trials."""
