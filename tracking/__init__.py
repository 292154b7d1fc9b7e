"""Records of what was asked and measured, and everything that keeps, shows and compares them."""
