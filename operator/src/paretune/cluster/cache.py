"""Children of studies as the watches told of them, with what this process has done since.

A reconcile reads this in place of lists, whose cost grows with the number of trials. It may be older than
the API server: an event is on its way. What is decided from it stays right all the same, because names of
children are deterministic, a status is replaced only in the version that was read, and pods of a Job that has
ended are read anew. From time to time everything is listed, since a watch can lose an event.
"""

import json
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..api import OptimizationTrial
from . import names
from .api import JOBS, PODS, POOLS, TRIALS, Api, Json, Resource

_CONTROLLER = "batch.kubernetes.io/controller-uid"
RELIST = 300.0
"""Seconds after which what is watched is listed again."""
RELIST_RECORDS = 60.0
"""Seconds after which a study's records are listed again: they are not watched."""
PARSED = 1000
"""Records that are kept parsed, which takes ten times the memory of their text."""
_LISTED = {TRIALS: RELIST_RECORDS, JOBS: RELIST, PODS: RELIST}

Group = tuple[str, str]
"""Namespace, and the label that tells the study."""


class Record:
    """A trial's record, parsed when somebody looks at it."""

    __slots__ = ("_text", "_trial", "name", "study_uid", "uid", "version")

    def __init__(self, document: Json) -> None:
        metadata = document["metadata"]
        self.name, self.uid = str(metadata["name"]), str(metadata["uid"])
        self.version = str(metadata["resourceVersion"])
        self.study_uid = str(metadata.get("labels", {}).get(names.STUDY_UID, ""))
        kept = ("name", "namespace", "uid", "labels", "creationTimestamp")
        plain = {**document, "metadata": {key: metadata[key] for key in kept if key in metadata}}
        self._text = zlib.compress(json.dumps(plain, separators=(",", ":")).encode(), 1)
        self._trial: OptimizationTrial | None = None

    @property
    def trial(self) -> OptimizationTrial:
        """The record.

        Raises:
            ValidationError: when it is not what this version writes.
        """
        trial = self._trial
        if trial is None:
            document = json.loads(zlib.decompress(self._text))
            created = document["metadata"].get("creationTimestamp", "")
            # A trial begins with its record; that costs no write of its own.
            document["status"] = {"started": created, **document.get("status", {})}
            self._trial = trial = OptimizationTrial.model_validate(document)
        return trial

    def release(self) -> None:
        """Nobody looks at it for now."""
        self._trial = None


_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "labels",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
)


def _job(document: Json) -> Json:
    status = document.get("status", {})
    return {
        "metadata": _metadata(document),
        "spec": {key: document["spec"][key] for key in ("suspend",) if key in document["spec"]},
        "status": {"conditions": status.get("conditions", [])},
    }


def _pod(document: Json) -> Json:
    spec = document["spec"]
    return {
        "metadata": _metadata(document),
        "spec": {
            **{key: spec[key] for key in ("nodeName", "activeDeadlineSeconds") if key in spec},
            "initContainers": [{"name": c["name"]} for c in spec.get("initContainers", [])],
        },
        "status": document.get("status", {}),
    }


def _metadata(document: Json) -> Json:
    return {key: document["metadata"][key] for key in _METADATA if key in document["metadata"]}


def _whole(document: Json) -> Json:
    metadata = {k: v for k, v in document["metadata"].items() if k != "managedFields"}
    return {**document, "metadata": metadata}


_KEPT: Mapping[Resource, Callable[[Json], Any]] = {TRIALS: Record, JOBS: _job, PODS: _pod, POOLS: _whole}


class Cache:
    """Safe for threads.

    Args:
        api: the API server, for lists.
        namespaces: that are watched; empty: all.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self, api: Api, namespaces: Iterable[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api, self._namespaces, self._clock = api, tuple(namespaces), clock
        self._lock = threading.RLock()
        self._objects: dict[Resource, dict[Group, dict[str, Any]]] = {
            resource: defaultdict(dict) for resource in _KEPT
        }
        self._versions: dict[str, int] = {}
        self._deleted: dict[str, float] = {}
        self._listed: dict[object, float] = {}
        self._looked_at: dict[Group, None] = {}
        self._changes: dict[Group, int] = defaultdict(int)

    # --- what comes in ------------------------------------------------------------------------------------

    def seen(self, resource: Resource, document: Json) -> Any:
        """An object as an event, a list or a write of our own told; what is older than known is not taken.

        Returns:
            What is known of the object now; None when it is deleted, or belongs to no study.
        """
        metadata = document["metadata"]
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        group = _group(resource, metadata)
        if group is None:
            return None
        with self._lock:
            if uid in self._deleted:
                return None
            known = self._objects[resource][group]
            if self._versions.get(uid, -1) < version:
                self._versions[uid] = version
                known[uid] = _KEPT[resource](document)
                self._changes[group] += 1
            return known[uid]

    def gone(self, resource: Resource, document: Json) -> None:
        """The API server has deleted an object."""
        metadata = document["metadata"]
        group = _group(resource, metadata)
        if group is not None:
            with self._lock:
                self._drop(resource, group, metadata["uid"])
                self._deleted[metadata["uid"]] = self._clock()  # a list from before may be on its way

    def deleted(self, resource: Resource, namespace: str, study: str, uid: str) -> None:
        """This process has deleted a child: events from before are on their way."""
        with self._lock:
            self._drop(resource, _group_of(namespace, study), uid)
            self._deleted[uid] = self._clock()

    def _drop(self, resource: Resource, group: Group, uid: str) -> None:
        objects = self._objects[resource]
        if objects.get(group, {}).pop(uid, None) is not None:
            self._changes[group] += 1
            if not objects[group]:
                del objects[group]
        self._versions.pop(uid, None)

    # --- what goes out ------------------------------------------------------------------------------------

    def children(self, namespace: str, study: str) -> tuple[list[Record], list[Json], list[Json]]:
        """Trials, Jobs and pods that bear a study's label; listed, when that was long ago."""
        group = _group_of(namespace, study)
        for resource, seconds in _LISTED.items():
            if self._due((resource, group), seconds):
                ours = f",{names.MANAGED_BY}={names.MANAGER}" if resource is JOBS else ""
                self._list(resource, namespace, f"{names.STUDY}={group[1]}{ours}", [group])
                self._listed[resource, group] = self._clock()
        with self._lock:
            self._make_room(group)
            trials, jobs, pods = (
                list(self._objects[r].get(group, {}).values()) for r in (TRIALS, JOBS, PODS)
            )
        return trials, jobs, pods

    def changes(self, namespace: str, study: str) -> int:
        """Counts up with each change of a study's children."""
        with self._lock:
            return self._changes.get(_group_of(namespace, study), 0)

    def pools(self) -> list[Json]:
        """All DevicePools."""
        if self._due(POOLS):
            self._list(POOLS, None, "", [("", "")])
            self._listed[POOLS] = self._clock()
        with self._lock:
            return list(self._objects[POOLS].get(("", ""), {}).values())

    def benchmarks(self, pool: str) -> list[Json]:
        """Benchmark Jobs of a DevicePool, of all studies that are watched."""
        if self._due(JOBS):
            for namespace in self._namespaces or (None,):
                selector = f"{names.MANAGED_BY}={names.MANAGER}"
                with self._lock:
                    groups = [g for g in self._objects[JOBS] if namespace in (None, g[0])]
                self._list(JOBS, namespace, selector, groups)
            self._listed[JOBS] = self._clock()
        label = names.fitting(pool, names.LABEL_LIMIT)
        with self._lock:
            jobs = [job for group in self._objects[JOBS].values() for job in group.values()]
        wanted = {names.POOL: label, names.STAGE: "benchmark"}
        return [job for job in jobs if wanted.items() <= job["metadata"].get("labels", {}).items()]

    def pods_of(self, job: Json) -> list[Json]:
        """Pods of a Job as they are now at the API server."""
        metadata = job["metadata"]
        found = self._api.list(PODS, metadata["namespace"], f"{_CONTROLLER}={metadata['uid']}")
        for pod in found:
            self.seen(PODS, pod)
        return found

    def release(self, namespace: str, study: str) -> None:
        """Nobody looks at the study's records for now: keep them small."""
        with self._lock:
            self._release(_group_of(namespace, study))

    def _release(self, group: Group) -> None:
        self._looked_at.pop(group, None)
        for record in self._objects[TRIALS].get(group, {}).values():
            record.release()

    def forget(self, namespace: str, study: str) -> None:
        """The study is gone."""
        group = _group_of(namespace, study)
        with self._lock:
            for resource in (TRIALS, JOBS, PODS):
                for uid in self._objects[resource].pop(group, {}):
                    self._versions.pop(uid, None)
                self._listed.pop((resource, group), None)
            self._looked_at.pop(group, None)
            self._changes.pop(group, None)

    def doubt(self, namespace: str, study: str) -> None:
        """What is known was refused by the API server: list it at the next look."""
        with self._lock:
            for resource in _LISTED:
                self._listed.pop((resource, _group_of(namespace, study)), None)

    # --- lists --------------------------------------------------------------------------------------------

    def _due(self, what: object, seconds: float = RELIST) -> bool:
        with self._lock:
            now = self._clock()
            due = now - self._listed.get(what, float("-inf")) > seconds
            if due:
                self._deleted = {uid: at for uid, at in self._deleted.items() if now - at < RELIST}
            return due

    def _make_room(self, group: Group) -> None:
        """Keep the records parsed that were looked at last."""
        self._looked_at.pop(group, None)
        self._looked_at[group] = None
        kept = 0
        for other in reversed(list(self._looked_at)):
            kept += len(self._objects[TRIALS].get(other, ()))
            if kept > PARSED and other != group:
                self._release(other)

    def _list(self, resource: Resource, namespace: str | None, selector: str, groups: list[Group]) -> None:
        """Take over a list: what was known before and is not in it is gone."""
        with self._lock:
            before = {group: set(self._objects[resource].get(group, ())) for group in groups}
        found = self._api.list(resource, namespace, selector)
        there = {document["metadata"]["uid"] for document in found}
        for document in found:
            self.seen(resource, document)
        with self._lock:
            for group, uids in before.items():
                for uid in uids - there:
                    self._drop(resource, group, uid)


def _group_of(namespace: str, study: str) -> Group:
    return namespace, names.fitting(study, names.LABEL_LIMIT)


def _group(resource: Resource, metadata: Json) -> Group | None:
    if not resource.namespaced:
        return "", ""
    label = metadata.get("labels", {}).get(names.STUDY)
    return (metadata["namespace"], label) if label else None
