"""What the operator tells Prometheus. Counts by state are read when asked for; nothing here is global."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from kubernetes import client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from paretune.api.trial import State

_STATE_SECONDS = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 3 * 3600, 10 * 3600)
_RECONCILE_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


@dataclass(frozen=True)
class States:
    """How many studies and trials stand in which state."""

    studies: Mapping[str, int]
    trials: Mapping[str, int]


class OperatorMetrics:
    """The operator's metrics, in a registry of their own. Safe for threads.

    Args:
        states: counts by state. Trial states that it leaves out are reported as 0.
        watch_ages: seconds since the last sign of life, by watched resource.
        backlog: trials that are not logged yet, by tracking server.
        leading: this process is the one that acts.
        queue_depth: studies that are due and wait for a worker.
    """

    def __init__(
        self,
        *,
        states: Callable[[], States],
        watch_ages: Callable[[], Mapping[str, float]],
        backlog: Callable[[], Mapping[str, int]],
        leading: Callable[[], bool],
        queue_depth: Callable[[], int],
    ) -> None:
        self.registry: CollectorRegistry = _Registry(auto_describe=False)
        self.registry.register(_Observed(states, watch_ages, backlog, leading, queue_depth))
        ProcessCollector(registry=self.registry)
        self._state_seconds = Histogram(
            "paretune_trial_state_seconds",
            "Time that trials spent in a state, when they left it.",
            ["state"],
            buckets=_STATE_SECONDS,
            registry=self.registry,
        )
        self._reconcile_seconds = Histogram(
            "paretune_reconcile_seconds",
            "Time of one reconcile of a study, by how it ended.",
            ["result"],
            buckets=_RECONCILE_SECONDS,
            registry=self.registry,
        )
        self._requests = Counter(
            "paretune_api_requests",
            "Requests to the Kubernetes API; code 0 is no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._last = Gauge(
            "paretune_last_reconcile_timestamp_seconds",
            "When a reconcile ended last, in seconds since 1970; 0 before the first.",
            registry=self.registry,
        )
        for result in ("ok", "error", "conflict"):
            self._reconcile_seconds.labels(result)

    def trial_left(self, state: str, seconds: float) -> None:
        """A trial left a state in which it had been for so long."""
        self._state_seconds.labels(state).observe(max(0.0, seconds))

    def reconciled(self, result: Literal["ok", "error", "conflict"], seconds: float) -> None:
        """A reconcile ended now, after so long."""
        self._reconcile_seconds.labels(result).observe(seconds)
        self._last.set(time.time())

    def api_request(self, verb: str, resource: str, code: int | str) -> None:
        """A request to the API server was answered, or failed (code 0)."""
        self._requests.labels(verb, resource, str(code)).inc()


class _Observed(Collector):
    """Gauges whose values are elsewhere."""

    def __init__(
        self,
        states: Callable[[], States],
        watch_ages: Callable[[], Mapping[str, float]],
        backlog: Callable[[], Mapping[str, int]],
        leading: Callable[[], bool],
        queue_depth: Callable[[], int],
    ) -> None:
        self._states = states
        self._watch_ages = watch_ages
        self._backlog = backlog
        self._leading = leading
        self._queue_depth = queue_depth

    def collect(self) -> Iterator[Metric]:
        states = self._states()
        trials = {str(state): 0 for state in State} | {str(s): n for s, n in states.trials.items()}
        yield _gauge("paretune_studies", "Studies by state.", "state", states.studies)
        yield _gauge("paretune_trials", "Trials by state.", "state", trials)
        yield _gauge(
            "paretune_watch_age_seconds",
            "Time since the last event or bookmark of a watch.",
            "resource",
            self._watch_ages(),
        )
        yield _gauge(
            "paretune_tracking_backlog",
            "Trials that are not logged at their tracking server yet.",
            "server",
            self._backlog(),
        )
        yield GaugeMetricFamily(
            "paretune_leader", "1 while this process is the one that acts.", value=float(self._leading())
        )
        yield GaugeMetricFamily(
            "paretune_reconcile_queue",
            "Studies that are due and wait for a worker.",
            value=float(self._queue_depth()),
        )


def _gauge(name: str, documentation: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=[label])
    for key, value in values.items():
        family.add_metric([str(key)], float(value))
    return family


class _Registry(CollectorRegistry):
    """Without the time series `..._created`, which double the number of series and which nobody reads."""

    def collect(self) -> Iterable[Metric]:
        for metric in super().collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric


_PATH = re.compile(
    r"^/(?:api/[^/]+|apis/[^/]+/[^/]+)"
    r"(?:/namespaces/[^/]+(?=/[^/]))?"
    r"/(?P<resource>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>[^/]+))?)?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


def request_labels(method: str, url: str) -> tuple[str, str]:
    """Verb and resource of a request to the Kubernetes API, in the API's own words.

    A PATCH of `/apis/paretune.dev/v1alpha1/namespaces/ml/optimizationtrials/kws-0001/status` is
    `("patch", "optimizationtrials/status")`. What is no resource (`/version`, `/healthz`, discovery) has the
    resource `other`, so that the number of time series stays small.
    """
    parts = urlsplit(url)
    query = f"&{parts.query.lower()}"
    match = _PATH.match(parts.path)
    if match is None:
        return method.lower(), "other"
    name, subresource = match["name"], match["subresource"]
    resource = match["resource"] + (f"/{subresource}" if subresource else "")
    if method == "GET" and ("&watch=true" in query or "&watch=1" in query):
        return "watch", resource
    if method == "GET":
        return ("get" if name else "list"), resource
    if method == "DELETE":
        return ("delete" if name else "deletecollection"), resource
    return _VERBS.get(method, method.lower()), resource


def count_requests(api_client: client.ApiClient, metrics: OperatorMetrics) -> None:
    """Count every request of a client of the official library, answered or not."""
    rest: Any = api_client.rest_client
    request = rest.request

    def counted(method: str, url: str, *arguments: Any, **options: Any) -> Any:
        verb, resource = request_labels(method, url)
        try:
            response = request(method, url, *arguments, **options)
        except Exception as error:
            metrics.api_request(verb, resource, getattr(error, "status", 0) or 0)
            raise
        metrics.api_request(verb, resource, response.status)
        return response

    rest.request = counted
