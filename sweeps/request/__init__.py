"""What a command asks for, and everything that is wrong with it."""
