"""The code that runs: which commit it is, and what of it travels to the nodes of a cluster."""
