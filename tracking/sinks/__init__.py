"""Where results go, and what holds them until they are there."""
