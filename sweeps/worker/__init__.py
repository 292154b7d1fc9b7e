"""One trial in a fresh process on its node."""
