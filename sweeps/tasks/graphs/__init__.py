"""Reads from a traced net's graph what it needs as input and what it computes."""
