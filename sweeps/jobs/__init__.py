"""Batch jobs: a sweep that is handed over to a batch system."""
