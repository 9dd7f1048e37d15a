"""Everything that a reconcile looks at, read from the API server."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..api import DevicePool, OptimizationStudy, OptimizationTrial
from ..plan.admission import Cluster
from . import jobs, names
from .api import CLAIMS, EVENTS, JOBS, NAMESPACES, PODS, POOLS, TRIALS, Api, Json
from .config import OperatorConfig
from .tasks import claim_of, sources

REFUSED_AFTER = 5.0
"""Seconds after which a Job without a pod is looked into."""


@dataclass(frozen=True)
class Children:
    """What a study has in its namespace.

    Args:
        trials: records in number order, without gaps.
        documents: the same as the API server gave them, by number.
        jobs: Jobs that are not being deleted.
        earlier: objects of an earlier study of this name are still there.
    """

    trials: tuple[OptimizationTrial, ...]
    documents: dict[int, Json]
    jobs: tuple[jobs.JobSeen, ...]
    earlier: bool


class Records:
    """Trial records, parsed once for each version: a study of a thousand is looked at again and again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, OptimizationTrial]] = {}

    def parsed(self, document: Json) -> OptimizationTrial:
        uid, version = document["metadata"]["uid"], document["metadata"]["resourceVersion"]
        known = self._known.get(uid)
        if known is not None and known[0] == version:
            return known[1]
        trial = OptimizationTrial.model_validate(document)
        self._known[uid] = (version, trial)
        return trial

    def forget(self, uids: Sequence[str]) -> None:
        for uid in uids:
            self._known.pop(uid, None)


def children(api: Api, study: OptimizationStudy, records: Records, now: datetime) -> Children:
    """Trials, Jobs and pods of a study."""
    namespace, uid = study.metadata.namespace, study.metadata.uid
    selector = f"{names.STUDY}={names.fitting(study.metadata.name, names.LABEL_LIMIT)}"
    mine, earlier = [], False
    for document in api.list(TRIALS, namespace, selector):
        if document["metadata"]["labels"].get(names.STUDY_UID) == uid:
            mine.append(document)
        else:
            earlier = True
    found = api.list(JOBS, namespace, f"{selector},{names.MANAGED_BY}={names.MANAGER}")
    ours = [j for j in found if j["metadata"]["labels"].get(names.STUDY_UID) == uid]
    earlier |= any(
        j["metadata"]["labels"].get(names.STUDY_UID) != uid
        and j["metadata"]["labels"].get(names.STAGE) != "purge"
        for j in found
    )
    by_number = {document["spec"]["number"]: document for document in mine}
    trials = tuple(records.parsed(by_number[n]) for n in sorted(by_number))
    devices = study.status.devices
    return Children(trials, by_number, tuple(_jobs(api, namespace, ours, selector, devices, now)), earlier)


def _jobs(
    api: Api,
    namespace: str | None,
    documents: Sequence[Json],
    selector: str,
    devices: Mapping[str, Any],
    now: datetime,
) -> Iterator[jobs.JobSeen]:
    if not documents:
        return
    pods: dict[str, list[Json]] = defaultdict(list)
    for pod in api.list(PODS, namespace, selector):
        for owner in pod["metadata"].get("ownerReferences", []):
            pods[owner["uid"]].append(pod)
    for document in documents:
        uid = document["metadata"]["uid"]
        refusal = "" if pods[uid] else _refusal(api, namespace, document, now)
        job = jobs.seen(document, pods[uid], refusal, devices)
        if job is not None:
            yield job


def _refusal(api: Api, namespace: str | None, job: Json, now: datetime) -> str:
    """What the Job controller was told when it created a pod: a quota or a limit range, mostly."""
    created = jobs.moment(job["metadata"]["creationTimestamp"])
    active = not job["spec"].get("suspend") and not job.get("status", {}).get("conditions")
    if created is None or not active or (now - created).total_seconds() < REFUSED_AFTER:
        return ""
    uid = job["metadata"]["uid"]
    events = api.list(EVENTS, namespace, fields=f"involvedObject.uid={uid},reason=FailedCreate")
    return max(events, key=_last, default={}).get("message", "")[:500] if events else ""


def _last(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def cluster(api: Api, study: OptimizationStudy, config: OperatorConfig) -> Cluster:
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
        pools=pools(api),
        namespace_labels=labels,
        claims=claims,
        inline_pools=config.allow_inline_pools,
        servers=tuple(server.uri for server in config.tracking.servers),
        default_server=config.tracking.default,
    )


def pools(api: Api) -> dict[str, DevicePool]:
    """Every DevicePool by name."""
    return {d["metadata"]["name"]: DevicePool.model_validate(d) for d in api.list(POOLS)}


def busy(api: Api, config: OperatorConfig, pool: str) -> int:
    """Benchmark Jobs of a pool that are not finished, over all namespaces that are watched."""
    selector = f"{names.POOL}={names.fitting(pool, names.LABEL_LIMIT)},{names.STAGE}=benchmark"
    found = [job for namespace in config.namespaces or (None,) for job in api.list(JOBS, namespace, selector)]
    return sum(not _finished(job) for job in found)


def _finished(job: Json) -> bool:
    conditions = job.get("status", {}).get("conditions", [])
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
