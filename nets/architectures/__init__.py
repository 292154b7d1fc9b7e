"""The nets that this project has, a module per family."""
