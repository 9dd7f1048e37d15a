"""After the search: the front's models go to MLflow, and the store keeps what is worth keeping."""

import contextlib
import hashlib
import json
from typing import TYPE_CHECKING

from paretune_contract.failure import WORLD_REASONS

from ..api import OptimizationTrial
from ..plan.actions import Finish
from ..plan.observed import Work
from ..search.front import FrontDocument
from . import jobs, manifests, names, publishing, status, tasks
from .api import CONFIG_MAPS, JOBS, AlreadyExists

if TYPE_CHECKING:
    from .reconcile import Look

PUBLISH, RETAIN = "publish", "retain"
_JOB = {"apiVersion": "batch/v1", "kind": "Job"}
PAUSE = 60.0
"""Seconds to the second attempt of a stage that the world kept from its end; each pause is twice the last."""
LONGEST_PAUSE = 900.0


class After:
    """What is left to do for a study whose search is over.

    Args:
        look: at the study.
        finish: how the search ended; None while it runs.
        front: as it stands.
    """

    def __init__(self, look: "Look", finish: Finish | None, front: FrontDocument | None) -> None:
        self._look, self._front = look, front
        self._facts: list[status.Fact] = []
        self.again: float | None = None
        if finish is None or finish.reason == "Suspended" or front is None:
            return
        retains = look.study.spec.artifacts.retain == "front"
        if not self._published(front) or (retains and not self._retained(front)):
            self.again = PAUSE

    def facts(self) -> tuple[status.Fact, ...]:
        """Conditions that tell of it."""
        return tuple(self._facts)

    # --- publish ------------------------------------------------------------------------------------------

    def _published(self, front: FrontDocument) -> bool:
        look = self._look
        if not look.status.tracking or not front.front:
            return True
        digest = _digest(front)
        if look.status.published == digest:
            self._facts.append(
                status.Fact(status.PUBLISHED, "True", "Published", f"{len(front.front)} models in MLflow.")
            )
            return True
        job = self._job(PUBLISH)
        if job is None:
            self._publish(front, digest)
            self._say("Publishing", "The front's models are being brought to MLflow.")
            return False
        if job.result is None:
            self._write_records(job.name, job.uid, front)
            self._say(
                job.waits or "Publishing", job.message or "The front's models are being brought to MLflow."
            )
            return False
        if job.result.reason is None:
            self._over(job)
            look.status = look.status.model_copy(update={"published": digest})
            message = f"{len(front.front)} models in MLflow."
            self._facts.append(status.Fact(status.PUBLISHED, "True", "Published", message))
            look._event("Normal", "Published", message)
            return True
        self._say(job.result.reason.value, job.result.message)
        self._retry(job, digest)
        return False

    def _over(self, job: jobs.JobSeen) -> None:
        """Delete the Job; what follows is another attempt."""
        look, stage = self._look, job.work.stage
        attempts = {**look.status.attempts, stage: job.attempt + 1}
        look.status = look.status.model_copy(update={"attempts": attempts})
        look._delete(job)

    def _retry(self, job: jobs.JobSeen, digest: str) -> None:
        """Another attempt: later, when the world was at fault; else only for another front.

        Until then the Job that failed stays, for whoever wants to read its log.
        """
        assert job.result is not None
        waited = (self._look.now - (job.ended or self._look.now)).total_seconds()
        pause = min(PAUSE * 2 ** min(job.attempt, 4), LONGEST_PAUSE)
        world = job.result.reason in WORLD_REASONS and waited >= pause
        if world or job.labels.get(names.FRONT) != digest[: names.LABEL_LIMIT]:
            self._over(job)

    def _say(self, reason: str, message: str) -> None:
        self._facts.append(status.Fact(status.PUBLISHED, "False", reason, message))

    def _publish(self, front: FrontDocument, digest: str) -> None:
        look, metadata = self._look, self._look.study.metadata
        assert metadata.uid is not None
        work, attempt = Work(names.ON_STUDY, PUBLISH), look.status.attempts.get(PUBLISH, 0)
        secrets = tasks.secrets(look.study.spec, PUBLISH)
        name = names.job_name(metadata.name, work, attempt)
        job = manifests.publish_job(
            look.config,
            namespace=metadata.namespace or "",
            name=name,
            labels=names.front_labels(metadata.name, metadata.uid, work, attempt, digest),
            owner=names.owner(look.document),
            document=publishing.document(look.study, look.store),
            records=name,
            access=manifests.Access(fetch=secrets, claims=tasks.claims(look.study.spec, PUBLISH)),
        )
        created = look._created(JOBS, job)
        self._write_records(name, created["metadata"]["uid"], front)

    def _write_records(self, name: str, uid: str, front: FrontDocument) -> None:
        """The ConfigMap that the Job's pod waits for; it goes with the Job, and never changes."""
        look = self._look
        shown, meta = {0, *(entry.trial for entry in front.front)}, {"name": name, "uid": uid}
        document = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "namespace": look.study.metadata.namespace,
                "name": name,
                "labels": names.study_labels(look.study.metadata.name, look.study.metadata.uid or ""),
                "ownerReferences": [{**names.owner({**_JOB, "metadata": meta}), "blockOwnerDeletion": False}],
            },
            "immutable": True,
            "binaryData": publishing.records(front, [t for t in look.trials if t.number in shown]),
        }
        with contextlib.suppress(AlreadyExists):
            look.api.create(CONFIG_MAPS, document)

    # --- retain -------------------------------------------------------------------------------------------

    def _retained(self, front: FrontDocument) -> bool:
        look = self._look
        kept = _candidates(front, look.trials)
        digest = hashlib.sha256(" ".join(kept).encode()).hexdigest()
        if look.status.retained == digest:
            return True
        job = self._job(RETAIN)
        metadata = look.study.metadata
        assert metadata.uid is not None
        if job is None:
            work, attempt = Work(names.ON_STUDY, RETAIN), look.status.attempts.get(RETAIN, 0)
            secrets = tasks.secrets_of_upload(tasks.secrets(look.study.spec, RETAIN), look.store)
            document = manifests.store_job(
                look.config,
                namespace=metadata.namespace or "",
                name=names.job_name(metadata.name, work, attempt),
                labels=names.front_labels(metadata.name, metadata.uid, work, attempt, digest),
                owner=names.owner(look.document),
                task=look.tasks.retain(kept),
                image=look.status.images["benchmark"],
                access=manifests.Access(upload=secrets, store=tasks.store_claim(look.study.spec)),
            )
            look._created(JOBS, document)
            return False
        if job.result is None:
            return False
        if job.result.reason is None:
            self._over(job)
            look.status = look.status.model_copy(update={"retained": digest})
            return True
        self._retry(job, digest)
        return False

    def _job(self, stage: str) -> jobs.JobSeen | None:
        attempt = self._look.status.attempts.get(stage, 0)
        return next(
            (j for j in self._look.children.jobs if j.work.stage == stage and j.attempt == attempt), None
        )


def _digest(front: FrontDocument) -> str:
    """Changes when a member, its file or a reported value does."""
    content = [entry.model_dump(mode="json", by_alias=True) for entry in front.front]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _candidates(front: FrontDocument, trials: list[OptimizationTrial]) -> list[str]:
    files = [entry.artifact.sha256 for entry in front.front]
    if trials and trials[0].status.artifact is not None:
        files.append(trials[0].status.artifact.sha256)
    return sorted(set(files))
