"""One active operator: leader election by a Lease.

The election itself is the Kubernetes library's (`kubernetes.leaderelection`), whose loops can neither be
stopped nor told of what they should not survive. So what they go through, the lock, is ours: it bounds each
request, takes any failure to reach the API server for a failed attempt, ends the election when somebody else
holds the lease of a leader or when the process shuts down, and releases the lease then. A watchdog beside it,
on the monotonic clock, ends a leadership that was not renewed in time, whatever the election is waiting for.

https://kubernetes.io/docs/concepts/architecture/leases/
"""

import copy
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import urllib3
from kubernetes import client
from kubernetes.leaderelection.electionconfig import Config
from kubernetes.leaderelection.leaderelection import LeaderElection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

logger = logging.getLogger(__name__)

_UNTYPED_CONFIG: Any = Config
_UNTYPED_ELECTION: Any = LeaderElection
_UNTYPED_LOCK: Any = LeaseLock


class _Ended(Exception):
    """The election is over."""


class _Lost(_Ended):
    """Somebody else holds the lease of a leader."""


def end_process(reason: str) -> NoReturn:
    """End the process at once, without cleaning up, which could still write: another one may lead already."""
    logger.critical("leadership lost: %s; the process ends", reason)
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(1)


class Leadership:
    """This process' candidacy, and its leadership once it is elected.

    Args:
        name: name of the Lease.
        namespace: namespace of the Lease.
        identity: who this is, unique among all processes that ever run, such as pod name and a random suffix.
        on_start: called once in a thread of its own when this process leads. When it raises, leadership ends.
        on_stop: called with the reason when the lease is lost; not after `stop`. Nothing may be written once
            it is called, so by default it ends the process.
        duration: seconds that others wait for a leader that does not renew the lease.
        renew: seconds after which a leader that could not renew it gives up; less than `duration`.
        retry: seconds between two attempts; less than `renew` / 1.2.
        api_client: how to reach the API server; its settings are copied. None: the library's default ones.

    Raises:
        ValueError: when the three times do not go together.
    """

    def __init__(
        self,
        name: str,
        namespace: str,
        identity: str,
        on_start: Callable[[], None],
        on_stop: Callable[[str], None] = end_process,
        duration: int = 15,
        renew: int = 10,
        retry: int = 2,
        api_client: client.ApiClient | None = None,
    ) -> None:
        if not duration > renew > 1.2 * retry > 1:
            raise ValueError(
                f"leader election with duration {duration}, renew {renew}, retry {retry}; expected "
                "duration > renew > 1.2 * retry, and retry of at least 1 second"
            )
        self._on_start = on_start
        self._on_stop = on_stop
        self._renew = renew
        self._lock = _Lock(name, namespace, identity, duration, renew / 2, api_client)
        self._config = _UNTYPED_CONFIG(
            lock=self._lock,
            lease_duration=duration,
            renew_deadline=renew,
            retry_period=retry,
            onstarted_leading=self._started,
            onstopped_leading=self._not_renewed,
        )
        self._ended = threading.Event()
        self._ending = threading.Lock()
        self._failure = ""

    @property
    def leading(self) -> bool:
        """This process holds the lease, and renewed it less than `renew` seconds ago."""
        return not self._ended.is_set() and self._lock.age() < self._renew

    @property
    def identity(self) -> str:
        """Who this is."""
        return str(self._lock.identity)

    def start(self) -> None:
        """Become a candidate, in threads of its own."""
        logging.getLogger("leaderelection").setLevel(logging.WARNING)  # it tells of each renewal
        threading.Thread(target=self._elect, name="leader-election", daemon=True).start()

    def stop(self) -> None:
        """Give up candidacy or leadership; release the lease, so that another leads within `retry` seconds.

        `on_stop` is not called. What this process writes must have been written before.
        """
        if self._end():
            self._lock.release()

    def _elect(self) -> None:
        try:
            _UNTYPED_ELECTION(self._config).run()
        except _Lost as lost:
            self._lose(str(lost))
        except _Ended:
            pass
        except Exception as error:
            logger.exception("leader election failed")
            self._lose(f"leader election failed: {error}")

    def _started(self) -> None:
        threading.Thread(target=self._watch, name="leader-watchdog", daemon=True).start()
        logger.info("%s leads by lease %s/%s", self.identity, self._lock.namespace, self._lock.name)
        try:
            self._on_start()
        except Exception as error:
            self._failure = f"the leader's work failed: {error}"
            raise

    def _watch(self) -> None:
        while not self._ended.wait(min(0.5, self._renew / 10)):
            if self._lock.age() >= self._renew:
                self._not_renewed()
            elif self._failure:
                self._lose(self._failure)

    def _not_renewed(self) -> None:
        lease = f"lease {self._lock.namespace}/{self._lock.name}"
        self._lose(self._failure or f"{lease} could not be renewed for {self._renew} s: {self._lock.problem}")

    def _lose(self, reason: str) -> None:
        if self._end():
            self._on_stop(reason)

    def _end(self) -> bool:
        """Whether this call is the one that ended it."""
        with self._ending:
            first = not self._ended.is_set()
            self._ended.set()
        self._lock.closed.set()
        return first


class _Lock:
    """The Lease, as the election sees it."""

    def __init__(
        self,
        name: str,
        namespace: str,
        identity: str,
        duration: float,
        timeout: float,
        api_client: client.ApiClient | None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.identity = identity
        self.closed = threading.Event()
        self.problem = "no answer"
        self._duration = duration
        self._api = _Bounded(_without_retries(api_client), timeout)
        self._lease = _UNTYPED_LOCK(name, namespace, identity)
        self._lease.api_instance = self._api
        self._busy = threading.Lock()
        self._renewed: float | None = None
        self._others: tuple[dict[str, Any], float] | None = None
        """Somebody else's record, and when it was seen first."""

    def age(self) -> float:
        """Seconds since the last request that renewed the lease was sent; infinite for a follower."""
        return float("inf") if self._renewed is None else time.monotonic() - self._renewed

    def get(self, name: str, namespace: str) -> tuple[bool, Any]:
        with self._attempt():
            found, record = self._lease.get(name, namespace)
            if not found and record.status != 404:
                self._note()
            holder = record.holder_identity if found else None
            if self._renewed is not None and holder not in (None, self.identity):
                raise _Lost(f"lease {namespace}/{name} is held by {holder}")
            self._observe(None if holder in (None, self.identity) else record)
            return found, record

    def create(self, name: str, namespace: str, election_record: Any) -> bool:
        with self._attempt():
            return self._written(lambda: self._lease.create(name, namespace, election_record))

    def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        with self._attempt():
            if self._others is not None and time.monotonic() - self._others[1] < self._duration:
                return False  # the library goes by the wall clock, and that was set forward
            spec = self._lease.lease_reference.spec
            if spec is not None and spec.holder_identity != self.identity:
                spec.lease_transitions = (spec.lease_transitions or 0) + 1
            return self._written(lambda: self._lease.update(name, namespace, updated_record))

    def release(self) -> None:
        """Empty the holder if it is this process, so that nobody has to wait until the lease is over.

        Only after `closed` is set: no attempt of the election follows. When it fails, the others wait.
        """
        with self._busy:
            if self._renewed is None:
                return
            self._renewed = None
            try:
                lease = self._api.read_namespaced_lease(self.name, self.namespace)
                if lease.spec.holder_identity == self.identity:
                    lease.spec.holder_identity = ""
                    lease.spec.lease_duration_seconds = 1
                    self._api.replace_namespaced_lease(self.name, self.namespace, lease)
                    logger.info("released lease %s/%s", self.namespace, self.name)
            except client.ApiException:
                logger.warning("lease %s/%s not released: %s", self.namespace, self.name, self._api.problem)

    def _observe(self, record: Any | None) -> None:
        if record is None:
            self._others = None
        elif self._others is None or self._others[0] != vars(record):
            self._others = (dict(vars(record)), time.monotonic())

    def _written(self, write: Callable[[], bool]) -> bool:
        sent = time.monotonic()
        if not write():
            self._note()
            return False
        self._renewed = sent
        if self.closed.is_set():  # ended while the request was on its way; `release` waits for this to return
            raise _Ended
        return True

    def _note(self) -> None:
        self.problem = self._api.problem
        logger.warning("lease %s/%s: %s", self.namespace, self.name, self.problem)

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        with self._busy:
            if self.closed.is_set():
                raise _Ended
            yield


class _Bounded:
    """The three calls on Leases, each bounded in time; whatever goes wrong is an ApiException."""

    def __init__(self, api_client: client.ApiClient, timeout: float) -> None:
        self._api = client.CoordinationV1Api(api_client)
        self._timeout = timeout
        self.problem = ""

    def read_namespaced_lease(self, name: str, namespace: str) -> Any:
        return self._call(self._api.read_namespaced_lease, name, namespace)

    def create_namespaced_lease(self, namespace: str, body: Any) -> Any:
        return self._call(self._api.create_namespaced_lease, namespace, body)

    def replace_namespaced_lease(self, name: str, namespace: str, body: Any) -> Any:
        return self._call(self._api.replace_namespaced_lease, name, namespace, body)

    def _call(self, call: Callable[..., Any], *arguments: Any) -> Any:
        self.problem = ""
        try:
            return call(*arguments, _request_timeout=self._timeout)
        except client.ApiException as error:
            self.problem = f"{error.status} {error.reason}"
            raise
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self.problem = f"{type(error).__name__}: {error}"
            raise client.ApiException(status=0, reason=self.problem) from error


def _without_retries(api_client: client.ApiClient | None) -> client.ApiClient:
    """A client of the same settings that tries once: the election tries again by itself."""
    configuration = api_client.configuration if api_client else client.Configuration.get_default_copy()
    copied = client.ApiClient(configuration=_copied(configuration))
    if api_client is not None:
        copied.default_headers.update(api_client.default_headers)
    return copied


def _copied(configuration: client.Configuration) -> client.Configuration:
    copied = copy.copy(configuration)
    copied.retries = False
    return copied
