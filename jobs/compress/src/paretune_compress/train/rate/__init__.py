"""Rate-aware training: integer weights that are trained for a budget of entropy-coded bytes."""
