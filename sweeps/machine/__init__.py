"""Facts about a machine: cores, memory, GPUs, versions, settings."""
