"""Waiting for what a cluster does by itself."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(condition: Callable[[], Found], seconds: float = 180, what: str = "") -> Found:
    """What `condition` gives, as soon as it is true.

    Raises:
        AssertionError: when it is not within `seconds`; a loaded machine needs long, so be generous.
    """
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what or 'the condition'} did not come true in {seconds:.0f} s"
        time.sleep(0.05)
    return found
