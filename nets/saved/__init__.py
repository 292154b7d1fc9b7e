"""Loads saved models without trusting them: `.keras`, Keras' older `.h5`, and SavedModel folders."""
