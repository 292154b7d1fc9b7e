"""What every process needs from the operating system: signals, temporary files, paths."""
