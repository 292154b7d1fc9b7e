"""Which sweep a command means: a new one, or an earlier one that is resumed as it was begun."""
