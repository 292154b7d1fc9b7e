"""A command line: as it was typed, and as it is passed on to Hydra and to batch jobs."""
