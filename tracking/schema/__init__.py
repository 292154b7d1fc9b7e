"""What records may hold, how JSON is read into them, and the measurements of a pass."""
