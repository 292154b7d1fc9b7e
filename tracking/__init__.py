"""Records of sweeps and their results, and everything that stores, shows and compares them."""
