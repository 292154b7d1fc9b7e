"""A machine that is not there: control groups of a given size, NVIDIA's library without a GPU."""
