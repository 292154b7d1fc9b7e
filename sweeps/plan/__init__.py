"""What will run, in what order, at what cost, and when to stop; checked before anything starts."""
