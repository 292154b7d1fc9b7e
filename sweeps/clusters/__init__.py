"""Clusters on which a command runs its trials itself: this machine, or an existing Ray cluster."""
