"""Dispatch of trials to nodes: which trial runs where and when, and its result."""
