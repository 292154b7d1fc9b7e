"""Times a step and gathers evidence about it."""
