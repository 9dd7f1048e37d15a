"""What a Job and its pods tell. Pure: documents in, what has become of the work out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from paretune_contract.failure import Reason
from paretune_contract.stages import CompressResult, Result
from paretune_contract.termination import NoMessage, from_message

from ..plan.observed import Work
from .manifests import RUN
from .names import attempt_of, work_of

Json = Mapping[str, Any]

QUEUED, UNSCHEDULABLE, QUOTA = "Queued", "Unschedulable", "QuotaExceeded"
NO_POD = "NoPod"
COMPLETE = "Complete"
"""Condition of a Job that succeeded."""
NOT_STARTED = "ContainerCreating"
"""A volume, an image or the network keeps the kubelet from starting the containers."""
LOST = "its pod was gone before its message was read"
_STARTING = {"ContainerCreating", "PodInitializing", ""}
"""Waiting reasons of a container that say nothing is wrong."""
_KILLED = 137
_UNKNOWN = "ContainerStatusUnknown"
"""What the kubelet says, with exit code 137, of a container that it does not find any more."""


@dataclass(frozen=True)
class JobSeen:
    """A Job of a study.

    Args:
        name: of the Job.
        uid: of the Job.
        work: what it does; a negative number is the study's own.
        attempt: from 0.
        result: what came out; None while it is not finished.
        waits: why it does not run yet, as reason; empty when it runs.
        message: a sentence on what it waits for.
        since: when it began to wait.
        node: node of its pod.
        pod: name of its latest pod.
        ended: when it ended.
        labels: of the Job.
    """

    name: str
    uid: str
    work: Work
    attempt: int
    result: Result | None = None
    waits: str = ""
    message: str = ""
    since: datetime | None = None
    node: str = ""
    pod: str = ""
    ended: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def seen(job: Json, pods: Sequence[Json], refusal: str, devices: Mapping[str, Any]) -> JobSeen | None:
    """A Job with its pods; None when it is none of ours, or is being deleted.

    Args:
        job: the Job.
        pods: its pods.
        refusal: what the Job controller was told when it created a pod, if that failed; of a pod that is
            there, what the kubelet says of why its containers do not start.
        devices: the study's devices by name.
    """
    metadata = job["metadata"]
    work = work_of(metadata.get("labels", {}), devices)
    if work is None or metadata.get("deletionTimestamp"):
        return None
    pod = latest(pods)
    common: dict[str, Any] = {
        "name": metadata["name"],
        "uid": metadata["uid"],
        "work": work,
        "attempt": attempt_of(metadata["labels"]),
        "labels": metadata["labels"],
        "node": pod["spec"].get("nodeName", "") if pod else "",
        "pod": pod["metadata"]["name"] if pod else "",
    }
    end = ended(job)
    if end:
        result = _succeeded(pod, work) if end["type"] == COMPLETE else _failed(pod, work)
        return JobSeen(**common, result=result, ended=moment(end.get("lastTransitionTime")))
    reason, message, since = _waits(job, pod, refusal)
    return JobSeen(**common, waits=reason, message=message, since=since)


def latest(pods: Sequence[Json]) -> Json | None:
    """The pod that was created last; None of none."""
    return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)


def ended(job: Json) -> Json | None:
    """The condition that says how a Job ended; None while it has not."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in (COMPLETE, "Failed") and condition["status"] == "True":
            found: Json = condition
            return found
    return None


# --- ended ------------------------------------------------------------------------------------------------


def _succeeded(pod: Json | None, work: Work) -> Result:
    statuses = pod.get("status", {}).get("containerStatuses", []) if pod else []
    text = "".join(s.get("state", {}).get("terminated", {}).get("message", "") for s in statuses)
    try:
        result = from_message(text, work.stage)
    except NoMessage:
        return Result(reason=Reason.INTERRUPTED, message=f"The stage ended, but {LOST}")
    if isinstance(result, CompressResult) and result.artifact is None:
        return Result(reason=Reason.INTERNAL, message="The stage reports success, but names no file")
    return result


def _failed(pod: Json | None, work: Work) -> Result:
    if pod is None:
        return Result(reason=Reason.INTERRUPTED, message=f"The stage failed, and {LOST}")
    status = pod.get("status", {})
    if status.get("reason") == "DeadlineExceeded":
        return _overdue(pod)
    if pod["metadata"].get("deletionTimestamp"):
        return Result(reason=Reason.INTERRUPTED, message="The pod was deleted while it ran")
    if status.get("reason") == "Evicted" or _disrupted(status):
        return Result(reason=Reason.INTERRUPTED, message=f"The pod was evicted: {status.get('message', '')}")
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        ended = container.get("state", {}).get("terminated")
        if ended and ended.get("exitCode"):
            own = container["name"] == RUN
            return _death(ended) if own else _not_moved(container["name"], ended, work)
    return Result(
        reason=Reason.INTERRUPTED, message=f"The pod failed: {status.get('message') or 'no reason'}"
    )


def _overdue(pod: Json) -> Result:
    """The pod's time was up. Only where the stage itself was at work is that the candidate's fault."""
    seconds = pod["spec"].get("activeDeadlineSeconds")
    status = pod.get("status", {})
    stage: Json = next((c for c in status.get("initContainerStatuses", []) if c["name"] == RUN), {})
    state = stage.get("state", {})
    ended = state.get("terminated")
    if pod["spec"].get("initContainers") and not ended and "running" not in state:
        held = _held(status)
        why = f": {held[1]}" if held else ": images, volumes and inputs took too long"
        return Result(reason=Reason.INTERRUPTED, message=f"The stage did not begin in {seconds} s{why}")
    if ended and ended.get("exitCode") == 0:
        return Result(
            reason=Reason.STORE_UNAVAILABLE,
            message=f"The stage ended, but the store did not take its result before the pod's {seconds} s "
            "were over",
        )
    return Result(reason=Reason.TIMED_OUT, message=f"The pod ran for more than {seconds} s and was ended")


def _death(terminated: Json) -> Result:
    """The stage's container itself died, which a stage that fails in good order does not."""
    code, reason = terminated.get("exitCode"), terminated.get("reason", "")
    if reason == _UNKNOWN:
        return Result(reason=Reason.INTERRUPTED, message="The node lost the stage's container")
    if reason == "OOMKilled" or code == _KILLED:
        return Result(
            reason=Reason.OUT_OF_MEMORY, message="The stage was killed: it needed more memory than its limit"
        )
    tail = str(terminated.get("message", "")).strip()[-300:]
    return Result(reason=Reason.CRASHED, message=f"The stage ended with exit code {code}. {tail}".strip())


def _not_moved(name: str, terminated: Json, work: Work) -> Result:
    text = str(terminated.get("message", ""))
    try:
        result = from_message(text, work.stage)
    except NoMessage:
        result = Result()
    if result.reason is not None:
        return result
    code, why = terminated.get("exitCode"), terminated.get("reason", "")
    return Result(
        reason=Reason.INTERRUPTED,
        message=f"{name} ended with exit code {code} ({why}): {text.strip()[-300:]}",
    )


def _disrupted(status: Json) -> bool:
    return any(
        c["type"] == "DisruptionTarget" and c["status"] == "True" for c in status.get("conditions", [])
    )


# --- not yet ended ----------------------------------------------------------------------------------------


def _waits(job: Json, pod: Json | None, refusal: str) -> tuple[str, str, datetime | None]:
    created = moment(job["metadata"].get("creationTimestamp"))
    if job["spec"].get("suspend"):
        return QUEUED, "The Job is suspended: it waits for its queue to admit it", None
    if pod is None or pod["metadata"].get("deletionTimestamp"):
        return (QUOTA, refusal, created) if refusal else (NO_POD, "The Job has no pod yet", created)
    status = pod.get("status", {})
    if status.get("phase", "Pending") == "Pending":
        mounted = (NOT_STARTED, refusal) if refusal else ("", "")
        reason, message = _unscheduled(status) or _held(status) or mounted
        if reason:
            return reason, message, moment(pod["metadata"].get("creationTimestamp")) or created
    return "", "", None


def _unscheduled(status: Json) -> tuple[str, str] | None:
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return UNSCHEDULABLE, condition.get("message", "no node fits")
    return None


def _held(status: Json) -> tuple[str, str] | None:
    """A container that cannot start: an image that is not there, a Secret that is missing."""
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason", "") not in _STARTING:
            text = f"{container['name']}: {waiting['reason']}: {waiting.get('message', '')}"
            return str(waiting["reason"]), text[:500]
    return None


def creating_since(pod: Json) -> datetime | None:
    """When a node took a pod whose containers it has not started yet; None for any other pod."""
    status = pod.get("status", {})
    if status.get("phase", "Pending") != "Pending" or _held(status) is not None:
        return None
    taken = (c for c in status.get("conditions", []) if c["type"] == "PodScheduled" and c["status"] == "True")
    return next((moment(c.get("lastTransitionTime")) for c in taken), None)


def moment(text: str | None) -> datetime | None:
    """A time of Kubernetes (RFC 3339); None where there is none."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def text_of(time: datetime) -> str:
    """A time as Kubernetes writes it, in whole seconds. The inverse of `moment`."""
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
