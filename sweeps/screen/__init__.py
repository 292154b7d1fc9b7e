"""What the user sees while a sweep runs and at its end."""
