"""What a stage reads and writes."""
