"""When each watched resource was last heard of: a watch that fell silent looks like a quiet cluster."""

import threading
import time
from collections.abc import Callable, Iterable


class Watches:
    """Signs of life of the watches, by resource. Safe for threads.

    Args:
        resources: plural names of what is watched, such as `optimizationstudies`.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, resources: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = dict.fromkeys(resources, clock())
        self._unsynced = set(self._seen)

    def seen(self, resource: str) -> None:
        """An event, a bookmark, or the end of a list came in.

        Raises:
            KeyError: when the resource is not one of those that are watched.
        """
        with self._lock:
            if resource not in self._seen:
                raise KeyError(f"{resource} is not watched; watched are {', '.join(sorted(self._seen))}")
            self._seen[resource] = self._clock()

    def synced(self, resource: str) -> None:
        """The first list is complete.

        Raises:
            KeyError: when the resource is not one of those that are watched.
        """
        self.seen(resource)
        with self._lock:
            self._unsynced.discard(resource)

    def unsynced(self) -> tuple[str, ...]:
        """Resources whose first list is not complete."""
        with self._lock:
            return tuple(sorted(self._unsynced))

    def ages(self) -> dict[str, float]:
        """Seconds since the last sign of life, by resource; before the first, since this object was made."""
        with self._lock:
            now = self._clock()
            return {resource: max(0.0, now - seen) for resource, seen in self._seen.items()}

    def stale(self, limit: float) -> str | None:
        """The resource that has been silent for longest, when that is more than `limit` seconds."""
        ages = self.ages()
        oldest = max(ages, key=ages.__getitem__, default=None)
        return oldest if oldest is not None and ages[oldest] > limit else None
