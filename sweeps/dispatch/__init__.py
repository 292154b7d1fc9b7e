"""Trials to nodes: which trial goes where and when, and what becomes of it."""
