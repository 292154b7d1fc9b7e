"""What results mean: statistics, doubts, verdicts, tables."""
