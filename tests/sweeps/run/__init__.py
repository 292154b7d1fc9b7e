"""The command line as a user runs it: whole sweeps, what interrupts them, bad input, odd places to start from."""
