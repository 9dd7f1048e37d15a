"""Fine-tuning: how it is configured, the port behind which it runs, and the way that trains the file."""
