"""What a machine is and has: cores, memory, GPUs, versions, settings."""
