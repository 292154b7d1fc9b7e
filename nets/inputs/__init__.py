"""What a model takes: its inputs by their signature, and what the user adds where that leaves sizes or ranges open."""
