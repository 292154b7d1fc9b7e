"""The code that runs: its commit, and the part of it that travels to the nodes of a cluster."""
