"""Everything that a reconcile looks at."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from ..api import DevicePool, OptimizationStudy, OptimizationTrial
from ..plan.admission import Cluster
from . import jobs, names
from .api import CLAIMS, EVENTS, NAMESPACES, Api, Json
from .cache import Cache, Record
from .config import OperatorConfig
from .jobs import JobSeen
from .tasks import claim_of, sources

log = logging.getLogger(__name__)

REFUSED_AFTER = 5.0
"""Seconds after which a Job without a pod is looked into."""
HELD_UP_AFTER = 20.0
"""Seconds after which a pod whose containers are still being created is looked into."""


@dataclass(frozen=True)
class Children:
    """What a study has in its namespace.

    Args:
        trials: records in number order.
        versions: of the records, by number.
        jobs: Jobs that are not being deleted.
        earlier: objects of an earlier study of this name are still there.
    """

    trials: tuple[OptimizationTrial, ...] = ()
    versions: dict[int, str] = field(default_factory=dict)
    jobs: tuple[JobSeen, ...] = ()
    earlier: bool = False


class NotUnderstood(Exception):
    """A record is not what this version writes."""


def children(api: Api, cache: Cache, study: OptimizationStudy, now: datetime) -> Children:
    """Trials, Jobs and pods of a study.

    Raises:
        NotUnderstood: when a record cannot be read.
    """
    namespace, uid = study.metadata.namespace or "", study.metadata.uid
    records, found, pods = cache.children(namespace, study.metadata.name)
    mine = {_parsed(record).number: record for record in records if record.study_uid == uid}
    ours = [job for job in found if job["metadata"]["labels"].get(names.STUDY_UID) == uid]
    earlier = len(mine) < len(records) or any(
        job["metadata"]["labels"].get(names.STUDY_UID) != uid
        and job["metadata"]["labels"].get(names.STAGE) != "purge"
        for job in found
    )
    numbers = sorted(mine)
    return Children(
        trials=tuple(mine[n].trial for n in numbers),
        versions={n: mine[n].version for n in numbers},
        jobs=tuple(_jobs(api, cache, ours, pods, study.status.devices, now)),
        earlier=earlier,
    )


def jobs_of(api: Api, cache: Cache, study: OptimizationStudy, now: datetime) -> tuple[JobSeen, ...]:
    """Jobs of a study, whatever its records are like."""
    _, found, pods = cache.children(study.metadata.namespace or "", study.metadata.name)
    ours = [job for job in found if job["metadata"]["labels"].get(names.STUDY_UID) == study.metadata.uid]
    return tuple(_jobs(api, cache, ours, pods, study.status.devices, now))


def _parsed(record: Record) -> OptimizationTrial:
    try:
        return record.trial
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        raise NotUnderstood(
            f"OptimizationTrial {record.name}: {field}: {fault['msg']}; was it written by a newer version?"
        ) from error


def _jobs(
    api: Api,
    cache: Cache,
    documents: Sequence[Json],
    pods: Sequence[Json],
    devices: Mapping[str, Any],
    now: datetime,
) -> Iterator[jobs.JobSeen]:
    owned: dict[str, list[Json]] = defaultdict(list)
    for pod in pods:
        for owner in pod["metadata"].get("ownerReferences", []):
            owned[owner["uid"]].append(pod)
    for document in documents:
        own = owned[document["metadata"]["uid"]]
        if jobs.ended(document) and not _tell(document, own):
            own = cache.pods_of(document)  # the Job's event has overtaken its pod's
        refusal = _held_up(api, own, now) if own else _refusal(api, document, now)
        job = jobs.seen(document, own, refusal, devices)
        if job is not None:
            yield job


def _tell(job: Json, pods: Sequence[Json]) -> bool:
    """The pods that are known are those that ended this Job."""
    phases = [pod.get("status", {}).get("phase") for pod in pods]
    end = jobs.ended(job)
    if end and end["type"] == jobs.COMPLETE:
        return "Succeeded" in phases
    return bool(phases) and set(phases) <= {"Succeeded", "Failed"}


def _refusal(api: Api, job: Json, now: datetime) -> str:
    """What the Job controller was told when it created a pod: a quota or a limit range, mostly."""
    created = jobs.moment(job["metadata"]["creationTimestamp"])
    active = not job["spec"].get("suspend") and not job.get("status", {}).get("conditions")
    if created is None or not active or (now - created).total_seconds() < REFUSED_AFTER:
        return ""
    return _newest_event(api, job, "reason=FailedCreate")


def _held_up(api: Api, pods: Sequence[Json], now: datetime) -> str:
    """What keeps the kubelet from starting the containers: a Secret or claim that is not there, mostly."""
    pod = jobs.latest(pods)
    since = jobs.creating_since(pod) if pod else None
    if pod is None or since is None or (now - since).total_seconds() < HELD_UP_AFTER:
        return ""
    return _newest_event(api, pod, "type=Warning")


def _newest_event(api: Api, about: jobs.Json, which: str) -> str:
    """What the newest of these Events says of an object; empty without one."""
    metadata = about["metadata"]
    fields = f"involvedObject.uid={metadata['uid']},{which}"
    found = api.list(EVENTS, metadata["namespace"], fields=fields)
    return str(max(found, key=_last, default={}).get("message", ""))[:500]


def _last(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def cluster(api: Api, cache: Cache, study: OptimizationStudy, config: OperatorConfig) -> Cluster:
    """What decides on a study's acceptance."""
    namespace = study.metadata.namespace
    labels: Mapping[str, str] = {}
    if namespace:
        found = api.get(NAMESPACES, None, namespace)
        labels = found["metadata"].get("labels", {}) if found else {}
    uris = [study.spec.artifacts.uri, *(source.uri for source in sources(study.spec).values())]
    claimed = sorted({claim.name for uri in uris if (claim := claim_of(uri))})
    claims: dict[str, Mapping[str, str] | None] = {}
    for name in claimed:
        document = api.get(CLAIMS, namespace, name)
        claims[name] = document["metadata"].get("labels", {}) if document else None
    return Cluster(
        pools=pools(cache),
        namespace_labels=labels,
        claims=claims,
        inline_pools=config.allow_inline_pools,
        servers=tuple(server.uri for server in config.tracking.servers),
        default_server=config.tracking.default,
    )


def pools(cache: Cache) -> dict[str, DevicePool]:
    """Every DevicePool by name."""
    found = {}
    for document in cache.pools():
        name = document["metadata"]["name"]
        try:
            found[name] = DevicePool.model_validate(document)
        except ValidationError as error:
            log.error("DevicePool %s is not understood, and left out: %s", name, error)
    return found


def busy(cache: Cache, pool: str) -> int:
    """Benchmark Jobs of a pool that are not finished, over all namespaces that are watched."""
    return sum(jobs.ended(job) is None for job in cache.benchmarks(pool))
