"""Jobs as plain documents. Pure."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paretune_contract.stages import BENCHMARK
from paretune_contract.task import CLAIMS, SECRETS, TASK, WORK, Task

from ..api.pool import PoolSpec
from ..api.publication import PUBLISH, RECORDS, RECORDS_VARIABLE
from .config import OperatorConfig
from .names import MANAGED_BY, MANAGER, QUEUE, STAGE

Json = dict[str, Any]

FETCH, RUN, UPLOAD = "fetch", "stage", "upload"
NODE_NAME = "PARETUNE_NODE_NAME"
USER = 65532
CA_FOLDER = "/etc/paretune/ca"
SMALL: Json = {
    "requests": {"cpu": "100m", "memory": "256Mi"},
    "limits": {"cpu": "1", "memory": "1Gi"},
}
"""Resources of containers that only move files."""
BENCHMARK_MARGIN = 900
"""Seconds for pulling images, files and the first run, beside a benchmark's rounds."""
PURGE_SECONDS = 3600
PURGED_SECONDS = 300

_RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Placement:
    """Where a pod runs.

    Args:
        pool: the DevicePool's spec; None: anywhere.
        cpus: cores of a benchmark container, where the pool does not say.
    """

    pool: PoolSpec | None = None
    cpus: int = 1


@dataclass(frozen=True)
class Access:
    """What the containers may reach.

    Args:
        fetch: Secrets that `fetch` mounts, folder to name.
        upload: those that `upload` mounts.
        claims: PersistentVolumeClaims that `fetch` reads.
        store: the claim that `upload` writes.
    """

    fetch: Mapping[str, str] = field(default_factory=dict)
    upload: Mapping[str, str] = field(default_factory=dict)
    claims: Sequence[str] = ()
    store: str | None = None


def stage_job(
    config: OperatorConfig,
    *,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    owner: Json,
    task: Task,
    image: str,
    access: Access,
    resources: Json,
    deadline: int,
    placement: Placement = Placement(),
    queue: str | None = None,
) -> Json:
    """The Job of one stage: fetch, stage and upload in a row.

    Args:
        config: the operator's.
        namespace: the study's.
        name: of the Job.
        labels: of the Job and its pod.
        owner: owner reference.
        task: what the pod is told.
        image: of all three containers.
        access: Secrets and claims.
        resources: of the stage's container; of all three for a benchmark, whose pod is Guaranteed.
        deadline: seconds that the pod may run.
        placement: for benchmarks.
        queue: Kueue's LocalQueue; the Job is then created suspended.
    """
    module = f"paretune_{'benchmark' if task.stage == BENCHMARK else 'compress'}.pod"
    guaranteed = task.stage == BENCHMARK
    moving = _without_devices(resources) if guaranteed else SMALL
    environment = [_said(TASK, task.model_dump_json(by_alias=True, exclude_defaults=True)), *_HOME]

    def container(step: str, own: Json, mounts: Sequence[Json], env: Sequence[Json]) -> Json:
        return {
            "name": step,
            "image": image,
            "imagePullPolicy": config.image_pull_policy,
            "command": ["python", "-m", module, step],
            "env": [*environment, *env],
            "resources": own,
            "securityContext": _RESTRICTED,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [_WORK_MOUNT, _TMP_MOUNT, *mounts],
        }

    outside = _outside(config)
    node = {"name": NODE_NAME, "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    pod: Json = {
        **_pod(config, access),
        "activeDeadlineSeconds": deadline,
        "initContainers": [
            container(
                FETCH,
                moving,
                [
                    *_secret_mounts(access.fetch),
                    *_claim_mounts(access.claims, read_only=True),
                    *_ca_mount(config),
                ],
                outside,
            ),
            container(RUN, resources, [], [node]),
        ],
        "containers": [
            container(
                UPLOAD,
                moving,
                [
                    *_secret_mounts(access.upload),
                    *_claim_mounts([access.store] if access.store else [], read_only=False),
                    *_ca_mount(config),
                ],
                outside,
            )
        ],
    }
    if guaranteed:
        pod |= _placed(placement)
    return _job(namespace, name, labels, owner, pod, spec={"suspend": True} if queue else {}, queue=queue)


def store_job(
    config: OperatorConfig,
    *,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    owner: Json | None,
    task: Task,
    image: str,
    access: Access,
) -> Json:
    """The Job of `retain` or `purge`: one container that has the store's credentials."""
    container = {
        "name": "store",
        "image": image,
        "imagePullPolicy": config.image_pull_policy,
        "command": ["python", "-m", "paretune_store.pod", task.stage],
        "env": [
            _said(TASK, task.model_dump_json(by_alias=True, exclude_defaults=True)),
            *_HOME,
            *_outside(config),
        ],
        "resources": SMALL,
        "securityContext": _RESTRICTED,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            _TMP_MOUNT,
            *_secret_mounts(access.upload),
            *_claim_mounts([access.store] if access.store else [], read_only=False),
            *_ca_mount(config),
        ],
    }
    pod = {**_pod(config, access), "activeDeadlineSeconds": PURGE_SECONDS, "containers": [container]}
    spec: Json = {"backoffLimit": 6}
    if owner is None:
        spec["ttlSecondsAfterFinished"] = PURGED_SECONDS
    return _job(namespace, name, labels, owner, pod, spec=spec)


def publish_job(
    config: OperatorConfig,
    *,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    owner: Json,
    document: str,
    records: str,
    access: Access,
) -> Json:
    """The Job that brings the front's models to MLflow.

    Args:
        config: the operator's.
        namespace: the study's.
        name: of the Job.
        labels: of the Job and its pod.
        owner: owner reference.
        document: what it is told, as JSON.
        records: name of the ConfigMap with the front's records.
        access: Secrets and claims.
    """
    container = {
        "name": "publish",
        "image": config.images.operator,
        "imagePullPolicy": config.image_pull_policy,
        "command": ["python", "-m", "paretune.tracking.publish"],
        "env": [
            _said(PUBLISH, document),
            {"name": RECORDS_VARIABLE, "value": RECORDS},
            *_HOME,
            *_outside(config),
        ],
        "resources": {
            "requests": {"cpu": "200m", "memory": "512Mi"},
            "limits": {"cpu": "1", "memory": "2Gi"},
        },
        "securityContext": _RESTRICTED,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            _TMP_MOUNT,
            {"name": "records", "mountPath": RECORDS, "readOnly": True},
            *_secret_mounts(access.fetch),
            *_claim_mounts(access.claims, read_only=True),
            *_ca_mount(config),
        ],
    }
    pod = {**_pod(config, access), "activeDeadlineSeconds": PURGE_SECONDS, "containers": [container]}
    pod["volumes"] = [*pod["volumes"], {"name": "records", "configMap": {"name": records}}]
    return _job(namespace, name, labels, owner, pod, spec={})


def benchmark_resources(placement: Placement) -> Json:
    """Limits of a benchmark container, and requests equal to them: the pod is Guaranteed."""
    limits: Json = {"cpu": str(placement.cpus), "memory": "1Gi"}
    if placement.pool is not None:
        limits |= placement.pool.resources.limits
    return {"limits": limits, "requests": dict(limits)}


def benchmark_deadline(seconds: float) -> int:
    """Seconds that a benchmark's pod may run, for rounds of so many."""
    return math.ceil(seconds * 2) + BENCHMARK_MARGIN


# --- parts ------------------------------------------------------------------------------------------------

_WORK_MOUNT: Json = {"name": "work", "mountPath": WORK}
_TMP_MOUNT: Json = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - an emptyDir of the pod
_HOME: list[Json] = [{"name": name, "value": "/tmp"} for name in ("HOME", "TMPDIR")]  # noqa: S108


def _job(
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    owner: Json | None,
    pod: Json,
    spec: Json,
    queue: str | None = None,
) -> Json:
    metadata: Json = {"namespace": namespace, "name": name, "labels": dict(labels)}
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    if queue:
        metadata["labels"][QUEUE] = queue
    rules: list[Json] = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    ]
    if any(c["name"] == RUN for c in pod.get("initContainers", [])):
        rules.append(
            {
                "action": "FailJob",
                "onExitCodes": {"containerName": RUN, "operator": "NotIn", "values": [0]},
            }
        )
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": rules},
            **spec,
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }


def _pod(config: OperatorConfig, access: Access) -> Json:
    claims = sorted({*access.claims, *([access.store] if access.store else [])})
    security: Json = {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "fsGroup": USER,  # Secrets and claims are for the group
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    volumes: list[Json] = [{"name": "work", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    volumes += [
        {"name": f"secret-{folder}", "secret": {"secretName": name, "defaultMode": 0o440}}
        for folder, name in sorted({**access.fetch, **access.upload}.items())
    ]
    volumes += [
        {"name": _claim_volume(claim), "persistentVolumeClaim": {"claimName": claim}} for claim in claims
    ]
    if config.jobs.ca_bundle_config_map:
        volumes.append({"name": "ca", "configMap": {"name": config.jobs.ca_bundle_config_map}})
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": config.jobs.service_account_name,
        "securityContext": security,
        "volumes": volumes,
    }
    if config.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in config.image_pull_secrets]
    if config.jobs.priority_class_name:
        pod["priorityClassName"] = config.jobs.priority_class_name
    return pod


def _said(name: str, document: str) -> Json:
    """A variable that holds exactly this text: Kubernetes expands $(NAME), and $$ stands for $."""
    return {"name": name, "value": document.replace("$", "$$")}


def _secret_mounts(secrets: Mapping[str, str]) -> list[Json]:
    return [
        {"name": f"secret-{folder}", "mountPath": f"{SECRETS}/{folder}", "readOnly": True}
        for folder in sorted(secrets)
    ]


def _claim_mounts(claims: Sequence[str], *, read_only: bool) -> list[Json]:
    return [
        {"name": _claim_volume(claim), "mountPath": f"{CLAIMS}/{claim}", "readOnly": read_only}
        for claim in sorted(claims)
    ]


def _claim_volume(claim: str) -> str:
    return f"claim-{hashlib.sha256(claim.encode()).hexdigest()[:8]}"


def _ca_mount(config: OperatorConfig) -> list[Json]:
    if not config.jobs.ca_bundle_config_map:
        return []
    return [{"name": "ca", "mountPath": CA_FOLDER, "readOnly": True}]


def _outside(config: OperatorConfig) -> list[Json]:
    """What a container needs to reach something outside: proxies and certificates."""
    env = list(config.jobs.env)
    if config.jobs.ca_bundle_config_map:
        env += [
            {"name": name, "value": f"{CA_FOLDER}/ca.crt"} for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        ]
    return env


def _without_devices(resources: Json) -> Json:
    """CPU and memory alone: only the stage's container takes the device."""
    return {
        part: {k: v for k, v in amounts.items() if k in ("cpu", "memory")}
        for part, amounts in resources.items()
    }


def _placed(placement: Placement) -> Json:
    """Node, runtime class, and never two benchmarks on one node, whosever they are."""
    alone: Json = {
        "labelSelector": {"matchLabels": {MANAGED_BY: MANAGER, STAGE: BENCHMARK}},
        "namespaceSelector": {},
        "topologyKey": "kubernetes.io/hostname",
    }
    affinity: Json = dict(placement.pool.affinity or {}) if placement.pool else {}
    anti: Json = dict(affinity.get("podAntiAffinity") or {})
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    anti[required] = [*(anti.get(required) or []), alone]
    placed: Json = {"affinity": {**affinity, "podAntiAffinity": anti}}
    if placement.pool is None:
        return placed
    pool = placement.pool
    if pool.node_selector:
        placed["nodeSelector"] = dict(pool.node_selector)
    if pool.tolerations:
        placed["tolerations"] = [
            t.model_dump(mode="json", by_alias=True, exclude_none=True) for t in pool.tolerations
        ]
    if pool.runtime_class_name:
        placed["runtimeClassName"] = pool.runtime_class_name
    return placed
