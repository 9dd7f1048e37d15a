"""Names and labels of children. Deterministic, so that creating one twice is noticed."""

from collections.abc import Mapping
from typing import Any

from ..api import naming
from ..plan.observed import Work

PREFIX = "paretune.dev"
MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "paretune"
STUDY, STUDY_UID = f"{PREFIX}/study", f"{PREFIX}/study-uid"
STAGE, TRIAL, DEVICE, POOL = f"{PREFIX}/stage", f"{PREFIX}/trial", f"{PREFIX}/device", f"{PREFIX}/pool"
ATTEMPT, FINAL = f"{PREFIX}/attempt", f"{PREFIX}/final"
FRONT = f"{PREFIX}/front"
FINALIZER = f"{PREFIX}/purge"
ALLOW = f"{PREFIX}/allow"
"""Label of claims that studies may use: `paretune.dev/allow: "true"`."""
QUEUE = "kueue.x-k8s.io/queue-name"

ON_STUDY = -1
"""Number of work that is the study's own."""

LABEL_LIMIT = 63
JOB_LIMIT = 63
OBJECT_LIMIT = naming.OBJECT_LIMIT

fitting, trial_name = naming.fitting, naming.trial_name


def job_name(study: str, work: Work, attempt: int) -> str:
    """Name of the Job that does this work; a work with a negative number is the study's own."""
    trial = f"-{work.number:04d}" if work.number >= 0 else ""
    stage = "final" if work.final and work.pool else work.stage
    device = f"-{work.pool}" if work.pool else ""
    return fitting(f"{study}{trial}-{stage}{device}-{attempt}", JOB_LIMIT)


def task_name(work: Work) -> str:
    """Name of the work's result in the store, the same for every attempt."""
    trial = f"{work.number:04d}-" if work.number >= 0 else ""
    return (
        f"{trial}{'final' if work.final and work.pool else work.stage}{f'-{work.pool}' if work.pool else ''}"
    )


def study_labels(name: str, uid: str) -> dict[str, str]:
    return {MANAGED_BY: MANAGER, STUDY: fitting(name, LABEL_LIMIT), STUDY_UID: uid}


def work_labels(name: str, uid: str, work: Work, attempt: int, pool: str = "") -> dict[str, str]:
    """Labels of the Job and of its pod.

    Args:
        name: of the study.
        uid: of the study.
        work: what the Job does.
        attempt: from 0.
        pool: DevicePool of a benchmark.
    """
    labels = {**study_labels(name, uid), STAGE: work.stage, ATTEMPT: str(attempt)}
    if work.number >= 0:
        labels[TRIAL] = str(work.number)
    if work.pool:
        labels[DEVICE] = fitting(work.pool, LABEL_LIMIT)
    if pool:
        labels[POOL] = fitting(pool, LABEL_LIMIT)
    if work.final:
        labels[FINAL] = "true"
    return labels


def front_labels(name: str, uid: str, work: Work, attempt: int, digest: str) -> dict[str, str]:
    """Labels of a Job that is about one front; with another digest it is out of date."""
    return {**work_labels(name, uid, work, attempt), FRONT: digest[:LABEL_LIMIT]}


def work_of(labels: Mapping[str, str], devices: Mapping[str, Any]) -> Work | None:
    """The work that a Job's labels tell; None when they are not ours.

    Args:
        labels: of the Job.
        devices: the study's devices by name; a label may hold a name that was cut.
    """
    if STAGE not in labels:
        return None
    label = labels.get(DEVICE, "")
    device = next((d for d in devices if fitting(d, LABEL_LIMIT) == label), label)
    number = labels.get(TRIAL, "")
    return Work(
        number=int(number) if number.isdecimal() else -1,
        stage=labels[STAGE],
        pool=device if label else "",
        final=labels.get(FINAL) == "true",
    )


def attempt_of(labels: Mapping[str, str]) -> int:
    text = labels.get(ATTEMPT, "0")
    return int(text) if text.isdecimal() else 0


def owner(obj: Mapping[str, Any]) -> dict[str, Any]:
    """An owner reference to an object."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
