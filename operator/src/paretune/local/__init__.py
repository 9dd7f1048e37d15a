"""This machine as the place where stages run: processes instead of pods."""
