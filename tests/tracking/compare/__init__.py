"""`python tracking/compare.py`: verdicts about two sweeps, and when they fail a build."""
