"""Lines for people who wait for training."""

import sys


def say(line: str) -> None:
    """Write to the request's log at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
