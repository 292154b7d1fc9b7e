"""A sweep handed to a batch system."""
