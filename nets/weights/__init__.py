"""Reads files of pretrained weights without trusting them."""
