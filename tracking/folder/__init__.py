"""A sweep's folder and the files in it."""
