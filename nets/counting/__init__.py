"""What a net takes and computes: its inputs, its layers, their operations."""
