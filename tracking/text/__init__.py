"""Text that people read: made harmless, in units, ready to paste."""
