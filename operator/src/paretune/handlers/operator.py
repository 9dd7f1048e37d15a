"""The operator as one object: queues, workers, Lease, probes and metrics around the reconcilers."""

import logging
import os
import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from kubernetes.client import ApiClient

from ..cluster.api import JOBS, PODS, POOLS, STUDIES, Api, ApiError, Conflict, Json, Resource
from ..cluster.config import OperatorConfig
from ..cluster.lease import Leadership
from ..cluster.metrics import OperatorMetrics, States, count_requests
from ..cluster.pools import PoolReconciler
from ..cluster.queue import ReconcileQueue, Workers
from ..cluster.reconcile import Key, Reconciler
from ..cluster.server import Probes, ProbeServer
from ..cluster.watches import Watches
from .tracked import Tracked

log = logging.getLogger(__name__)

RESYNC = 60.0
"""Seconds between two looks at everything: events can be lost, and deadlines send none."""
RESYNC_SOON = 5.0
TOGETHER = 0.05
"""Seconds between an event of a Job or pod and the look at its study, for what changes at the same time."""
WATCHED = "optimizationstudies"


class Operator:
    """Everything that lives as long as the process.

    Args:
        config: the operator's configuration.
        client: the official client.
        port: of probes and metrics; 0: any.
    """

    def __init__(self, config: OperatorConfig, client: ApiClient, port: int) -> None:
        self.config = config
        self.api = Api(client)
        self.tracked = Tracked(config)
        self.studies: ReconcileQueue[Key] = ReconcileQueue()
        self.pools: ReconcileQueue[str] = ReconcileQueue()
        self.watches = Watches([WATCHED])
        self._seen: dict[Key, tuple[str, str]] = {}
        self._states: dict[Key, str] = {}
        self._stop = threading.Event()
        self.metrics = OperatorMetrics(
            states=self._count,
            watch_ages=self.watches.ages,
            backlog=self.tracked.backlog,
            leading=lambda: self.leadership.leading,
            queue_depth=self.studies.depth,
        )
        count_requests(client, self.metrics)
        reconciler = Reconciler(self.api, config, self.tracked, left=self.metrics.trial_left)
        self._reconciler, self.cache = reconciler, reconciler.cache
        self._workers = Workers(
            self.studies,
            reconciler,
            config.reconcile.workers,
            observe=self._reconciled,
            conflicts=(Conflict,),
        )
        self._pool_workers = Workers(
            self.pools, PoolReconciler(self.api, self.cache), 1, conflicts=(Conflict,)
        )
        self.leadership = Leadership(
            config.lease.name,
            config.lease.namespace,
            f"{os.environ.get('POD_NAME') or os.uname().nodename}-{secrets.token_hex(4)}",
            self._lead,
            api_client=client,
        )
        self._probes = ProbeServer(
            self.metrics.registry,
            Probes(stuck=self._stuck, watches=self.watches, leading=lambda: self.leadership.leading),
            port=port,
        )

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Serve probes, and become a candidate for the Lease."""
        self._probes.start()
        self.leadership.start()
        threading.Thread(target=self._resync_forever, name="resync", daemon=True).start()

    def stop(self) -> None:
        """End in good order: reconciles first, then what they told MLflow, the Lease last."""
        self._stop.set()
        self._workers.stop()
        self._pool_workers.stop()
        self.tracked.close()
        self.leadership.stop()
        self._probes.stop()

    def _lead(self) -> None:
        log.info("This process is the active operator")
        self._workers.start()
        self._pool_workers.start()

    def _stuck(self, limit: float) -> object | None:
        study = self.studies.stuck(limit)
        return study if study is not None else self.pools.stuck(limit)

    def _reconciled(self, _key: Key, result: Literal["ok", "error", "conflict"], seconds: float) -> None:
        self.metrics.reconciled(result, seconds)

    # --- what wakes ---------------------------------------------------------------------------------------

    def study_seen(self, document: Json, *, gone: bool) -> None:
        """A study was created, changed or deleted."""
        key = _key(document)
        self.watches.seen(WATCHED)
        uid, version = document["metadata"]["uid"], document["metadata"]["resourceVersion"]
        if gone and self._seen.get(key, (uid, ""))[0] == uid:  # else another of its name is there already
            self._seen.pop(key, None)
            self._states.pop(key, None)
            self.studies.forget(key)
            self._reconciler.forget(key, uid)
        if gone:
            return
        self._seen[key] = (uid, version)
        self._states[key] = state_of(document)
        self.studies.wake(key)

    def job_seen(self, document: Json, *, gone: bool) -> None:
        """A Job of a study changed."""
        self._take_over(JOBS, document, gone=gone)
        self.wake_owner(document)

    def pod_seen(self, document: Json, *, gone: bool) -> None:
        """A pod of a study changed."""
        self._take_over(PODS, document, gone=gone)
        self.wake_owner(document)

    def _take_over(self, resource: Resource, document: Json, *, gone: bool) -> None:
        if gone:
            self.cache.gone(resource, document)
        else:
            self.cache.seen(resource, document)

    def wake_owner(self, document: Json) -> None:
        """Something of a study changed."""
        from ..cluster import names

        metadata = document["metadata"]
        label = metadata.get("labels", {}).get(names.STUDY)
        if label is None:
            return
        namespace = metadata["namespace"]
        for key in tuple(self._seen):
            if key[0] == namespace and names.fitting(key[1], names.LABEL_LIMIT) == label:
                # Several pods change at once; one look a moment later sees them all.
                self.studies.wake(key, TOGETHER)

    def pool_seen(self, document: Json, *, gone: bool) -> None:
        """A DevicePool changed: studies may wait for it."""
        self._take_over(POOLS, document, gone=gone)
        name = document["metadata"]["name"]
        if gone:
            self.pools.forget(name)
        else:
            self.pools.wake(name)
        for key in tuple(self._seen):
            self.studies.wake(key, 1.0)

    def resync(self) -> None:
        """Look at everything, whatever the watches have told."""
        fresh = True
        for namespace in self.config.namespaces or (None,):
            for document in self.api.list(STUDIES, namespace):
                key = _key(document)
                uid, version = document["metadata"]["uid"], document["metadata"]["resourceVersion"]
                fresh &= self._seen.get(key) == (uid, version)
                self._seen.setdefault(key, (uid, ""))
                self._states[key] = state_of(document)
                self.studies.wake(key)
        if fresh or WATCHED in self.watches.unsynced():
            self.watches.synced(WATCHED)
        for document in self.api.list(POOLS):
            self.pools.wake(document["metadata"]["name"])

    def _resync_forever(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = RESYNC
            try:
                self.resync()
            except ApiError as error:
                log.warning("Not all studies could be listed: %s", error)
                pause = RESYNC_SOON

    def _count(self) -> States:
        return States(studies=Counter(list(self._states.values())), trials=self._reconciler.trial_states())


def state_of(study: Mapping[str, Any]) -> str:
    """`Pending`, `NotReady`, `Running`, `Suspended`, `Complete` or `Failed`, from the conditions."""
    conditions = {c["type"]: c for c in study.get("status", {}).get("conditions", [])}

    def is_true(kind: str) -> bool:
        return bool(conditions.get(kind, {}).get("status") == "True")

    if is_true("Complete"):
        return "Complete"
    if is_true("Failed"):
        return "Failed"
    if conditions.get("Ready", {}).get("status") == "False":
        return "NotReady"
    if conditions.get("Progressing", {}).get("reason") == "Suspended":
        return "Suspended"
    return "Running" if is_true("Ready") else "Pending"


def _key(document: Json) -> Key:
    return document["metadata"]["namespace"], document["metadata"]["name"]
