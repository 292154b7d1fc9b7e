"""The sweep that a command is about: a new one, or an earlier one that goes on as it was begun."""
