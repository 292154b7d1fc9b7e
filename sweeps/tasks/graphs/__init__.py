"""What a traced net takes and computes, read from its graph."""
