"""Trying for as long as it takes: the hours of a stage are worth more than the minutes of a store."""

import time
from collections.abc import Callable
from typing import TypeVar

from paretune_contract.failure import Reason, StageError

from .container import say

LONGEST_PAUSE = 60.0
_FIRST_PAUSE = 2.0

_T = TypeVar("_T")


class Persistence:
    """A span of time in which the store may come back, shared by all operations of a container.

    Args:
        seconds: the span; it begins now.
        clock, pause: for tests.
    """

    def __init__(
        self,
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock, self._wait = clock, pause
        self._end = clock() + seconds

    def __call__(self, operation: Callable[[], _T]) -> _T:
        """What `operation` returns; it is repeated while the store does not answer.

        Raises:
            StageError: STORE_UNAVAILABLE when the span is over; whatever else `operation` raises.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                return operation()
            except StageError as error:
                left = self._end - self._clock()
                if error.reason is not Reason.STORE_UNAVAILABLE or left <= 0:
                    raise
                wait = min(pause, left)
                say(f"{error.message}; trying again in {wait:.0f} s, for {left:.0f} s at most")
                self._wait(wait)
                pause = min(2 * pause, LONGEST_PAUSE)
