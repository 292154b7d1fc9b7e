"""Turns picture files into a net's input, and a saved net into predictions.

A copy of this package is part of every logged model, so it only needs the standard library, NumPy, Pillow, pandas and
TensorFlow, and no other package of this project.
"""
