"""Which study is reconciled next: woken keys, each once however often it was woken, by one worker at a time.

The rules are those of client-go's work queue, where `wake` is called Add. What differs: a key that failed is
not run again sooner than the first step of the backoff, even when it is woken, so that a reconcile whose own
writes wake it cannot spin.

https://pkg.go.dev/k8s.io/client-go/util/workqueue
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

logger = logging.getLogger(__name__)

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 300.0
CONFLICT_BACKOFF = 0.1

K = TypeVar("K", bound=Hashable)
Outcome = Literal["ok", "error", "conflict"]


class Conflict(Exception):
    """A write was refused because somebody else wrote first: what was observed is out of date."""


class _Backoff(Generic[K]):
    """What is known of keys that failed: how often in a row, and how soon they may run at the earliest."""

    def __init__(self, first: float, longest: float, rng: Callable[[], float]) -> None:
        self.first = first
        self._longest = longest
        self._rng = rng
        self._failures: dict[K, int] = {}
        self._not_before: dict[K, float] = {}

    def failed(self, key: K, now: float, first: float | None) -> float:
        """Seconds to wait: doubled with each failure in a row, at most `longest`, minus up to a tenth."""
        step = self.first if first is None else first
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._not_before[key] = now + step
        return min(self._longest, step * 2.0 ** min(failures, 32)) * (1 - 0.1 * self._rng())

    def earliest(self, key: K) -> float:
        return self._not_before.get(key, float("-inf"))

    def forget(self, key: K) -> None:
        self._failures.pop(key, None)
        self._not_before.pop(key, None)


@dataclass(frozen=True)
class _Run:
    """A key that a worker has."""

    since: float
    again_at: float | None = None
    """When it was woken meanwhile for."""


class ReconcileQueue(Generic[K]):
    """Keys and when they are due. Safe for threads; nothing but `take` blocks.

    Args:
        first: seconds of the first backoff after a failure.
        longest: seconds of the longest.
        clock: a monotonic clock, in seconds.
        rng: uniform in [0, 1), for the jitter of the backoff.
    """

    def __init__(
        self,
        *,
        first: float = FIRST_BACKOFF,
        longest: float = LONGEST_BACKOFF,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._backoff: _Backoff[K] = _Backoff(first, longest, rng)
        self._due: dict[K, float] = {}
        self._running: dict[K, _Run] = {}
        self._taken: float | None = None
        self._stopped = False
        self._changed = threading.Condition()

    def wake(self, key: K, delay: float = 0.0) -> None:
        """The key is due in `delay` seconds, or earlier when it was due earlier.

        While a worker has the key, it is due again as soon as the worker is done with it.
        """
        with self._changed:
            at = max(self._clock() + max(delay, 0.0), self._backoff.earliest(key))
            run = self._running.get(key)
            if run is None:
                self._schedule(key, at)
            elif run.again_at is None or at < run.again_at:
                self._running[key] = _Run(run.since, at)

    def begin(self) -> None:
        """Workers take keys from now on."""
        with self._changed:
            self._taken = self._clock()

    def take(self, timeout: float | None = None) -> K | None:
        """The key that has been due for longest, once there is one.

        Returns:
            None when the queue was stopped, or nothing was due for `timeout` seconds.
        """
        with self._changed:
            until = None if timeout is None else self._clock() + timeout
            while not self._stopped:
                now = self._clock()
                key = min(self._due, key=self._due.__getitem__, default=None)
                at = None if key is None else self._due[key]
                if key is not None and at is not None and at <= now:
                    del self._due[key]
                    self._running[key] = _Run(now)
                    self._taken = now
                    return key
                if until is not None and now >= until:
                    return None
                ends = [end for end in (at, until) if end is not None]
                self._changed.wait(min(ends) - now if ends else None)
            return None

    def done(self, key: K, requeue_after: float | None = None) -> None:
        """The worker is done with the key; its failures are forgotten.

        Args:
            key: as it was taken.
            requeue_after: seconds until the key wants to run again; None: when it is woken.
        """
        with self._changed:
            run = self._running.pop(key, None)
            self._backoff.forget(key)
            now = self._clock()
            if run is not None and run.again_at is not None:
                self._schedule(key, run.again_at)
            if requeue_after is not None:
                self._schedule(key, now + max(requeue_after, 0.0))

    def failed(self, key: K, first: float | None = None) -> float:
        """The worker could not reconcile the key: it is due again after its backoff.

        Args:
            key: as it was taken.
            first: seconds of the first backoff, where another than the queue's is right.

        Returns:
            Seconds until then, if nothing wakes it before.
        """
        with self._changed:
            run = self._running.pop(key, None)
            now = self._clock()
            delay = self._backoff.failed(key, now, first)
            self._schedule(key, now + delay)
            if run is not None and run.again_at is not None:
                self._schedule(key, max(run.again_at, self._backoff.earliest(key)))
            return delay

    def forget(self, key: K) -> None:
        """Nothing is to be done for the key any more: what was scheduled and how it failed is dropped."""
        with self._changed:
            self._due.pop(key, None)
            self._backoff.forget(key)
            run = self._running.get(key)
            if run is not None:
                self._running[key] = _Run(run.since)

    def depth(self) -> int:
        """Keys that are due and that no worker has taken."""
        with self._changed:
            now = self._clock()
            return sum(at <= now for at in self._due.values())

    def stuck(self, limit: float) -> K | None:
        """The key that a worker has had for more than `limit` seconds, or that no worker took for as long.

        Keys wait while workers take others; only when none takes any do they count, and before the workers
        begin they wait for nothing else.
        """
        with self._changed:
            before = self._clock() - limit
            since = {key: run.since for key, run in self._running.items()}
            if self._taken is not None:
                since |= {key: max(at, self._taken) for key, at in self._due.items()}
            key = min(since, key=since.__getitem__, default=None)
            return key if key is not None and since[key] < before else None

    def stop(self) -> None:
        """Nothing is taken any more; workers that wait in `take` get None."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """`stop` was called."""
        return self._stopped

    def _schedule(self, key: K, at: float) -> None:
        if key not in self._due or at < self._due[key]:
            self._due[key] = at
            self._changed.notify_all()


class Workers(Generic[K]):
    """Threads that take keys and reconcile them.

    Args:
        queue: where the keys come from.
        reconcile: brings one key where it should be. Returns seconds until it wants to run again, or None.
            An exception is logged and the key tried again after a backoff; after `Conflict` a short one.
        count: number of threads, so of keys at a time.
        observe: told of each reconcile: key, outcome, seconds.
        conflicts: exceptions that count as `Conflict`.
    """

    def __init__(
        self,
        queue: ReconcileQueue[K],
        reconcile: Callable[[K], float | None],
        count: int = 4,
        *,
        observe: Callable[[K, Outcome, float], None] | None = None,
        conflicts: tuple[type[Exception], ...] = (Conflict,),
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._observe = observe
        self._conflicts = conflicts
        self._threads = [
            threading.Thread(target=self._work, name=f"reconcile-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Start the threads; once."""
        self._queue.begin()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Stop the queue and wait for reconciles that run.

        Returns:
            False when one still runs after `timeout` seconds.
        """
        self._queue.stop()
        until = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (key := self._queue.take()) is not None:
            began = time.monotonic()
            outcome = self._once(key)
            if self._observe is not None:
                self._observe(key, outcome, time.monotonic() - began)

    def _once(self, key: K) -> Outcome:
        try:
            again = self._reconcile(key)
        except self._conflicts as conflict:
            delay = self._queue.failed(key, CONFLICT_BACKOFF)
            logger.info("%s: %s; observed again in %.1f s", key, conflict or "a write conflicted", delay)
            return "conflict"
        except Exception:
            delay = self._queue.failed(key)
            logger.exception("%s: reconcile failed; tried again in %.0f s", key, delay)
            return "error"
        self._queue.done(key, again)
        return "ok"
