"""What turns picture files into what a net is given, and a saved net into predictions.

A copy of this package travels inside every logged model, so it needs the standard library, NumPy, Pillow, pandas and
TensorFlow, and nothing of ours.
"""
