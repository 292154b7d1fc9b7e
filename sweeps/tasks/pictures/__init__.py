"""Pictures to batches."""
