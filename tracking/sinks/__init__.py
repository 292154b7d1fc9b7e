"""Destinations of results, and the buffer in front of them."""
