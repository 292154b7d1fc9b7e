"""Trains a classifier on batches of pictures."""
