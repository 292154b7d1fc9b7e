"""Describes a net: its inputs, its layers, and their operations."""
