"""How long a store is asked again before it counts as unavailable."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from paretune_contract.failure import Reason, StageError

from .errors import NetworkFault

_T = TypeVar("_T")


@dataclass(frozen=True)
class Patience:
    """Attempts and waits of one operation; times in seconds.

    Attributes:
        attempts: how often a request is made at most.
        first_pause: wait after the first failure; each further wait is twice as long.
        timeout: how long a server may be silent.
        total: after this long no new attempt begins.
    """

    attempts: int = 5
    first_pause: float = 0.5
    timeout: float = 60.0
    total: float = 180.0


PATIENCE = Patience()


def persist(
    uri: str,
    attempt: Callable[[], _T],
    patience: Patience,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> _T:
    """What `attempt` returns, tried again after each NetworkFault.

    Raises:
        StageError: STORE_UNAVAILABLE, naming the URI and the last fault.
    """
    started = time.monotonic()
    number = 0
    while True:
        number += 1
        try:
            return attempt()
        except NetworkFault as error:
            wait = patience.first_pause * 2 ** (number - 1)
            if number >= patience.attempts or time.monotonic() - started + wait > patience.total:
                times = "once" if number == 1 else f"{number} times"
                raise StageError(Reason.STORE_UNAVAILABLE, f"{uri}: {error} (tried {times})") from error
            pause(wait)
