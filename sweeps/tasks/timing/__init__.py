"""A timed step and the evidence about it."""
