"""What to do next, decided from what is observed. Pure."""
