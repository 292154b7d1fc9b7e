"""What a command requests: its keys, its grid as trials, and every problem with it."""
