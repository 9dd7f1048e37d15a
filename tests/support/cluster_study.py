"""Studies and DevicePools for tests with an API server."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .api_server import ApiServer, Document

GROUP = "/apis/paretune.dev/v1alpha1"
BUCKET = "s3://models"


def study(name: str, *, devices: int | list[Document] = 1, **spec: Any) -> Document:
    """A manifest; its model and data exist nowhere, since nobody fetches them."""
    named = devices if isinstance(devices, list) else [_device(n) for n in range(devices)]
    objectives: list[Document] = [{"metric": "accuracy", "maxDrop": 0.05}, {"metric": "downloadSize"}]
    objectives += [{"metric": "latency", "device": d["name"]} for d in named]
    return {
        "apiVersion": "paretune.dev/v1alpha1",
        "kind": "OptimizationStudy",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": f"{BUCKET}/m.keras"},
            "dataset": {
                part: {"uri": f"{BUCKET}/{part}.npz"} for part in ("train", "calibration", "evaluation")
            },
            "objectives": objectives,
            "devices": named,
            "search": {"seed": 1},
            "budget": {"trials": 14, "parallelism": 3},
            "artifacts": {"uri": f"{BUCKET}/store"},
            **spec,
        },
    }


def _device(number: int) -> Document:
    return {"name": f"d{number}", "pool": f"pool-{number}"}


def pool(name: str, **spec: Any) -> Document:
    """A DevicePool on nodes labelled with its name."""
    return {
        "apiVersion": "paretune.dev/v1alpha1",
        "kind": "DevicePool",
        "metadata": {"name": name},
        "spec": {"nodeSelector": {"pool": name}, **spec},
    }


def path(namespace: str, name: str = "", plural: str = "optimizationstudies") -> str:
    return f"{GROUP}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def condition(document: Document, kind: str) -> Document:
    """A condition of an object; empty while it has none of this type."""
    found = document.get("status", {}).get("conditions", [])
    return next((c for c in found if c["type"] == kind), {})


def trials(api: ApiServer, namespace: str) -> list[Document]:
    """Trial records in number order."""
    return sorted(api.items(path(namespace, plural="optimizationtrials")), key=lambda t: t["spec"]["number"])


def wait_for(
    api: ApiServer, namespace: str, name: str, kind: str, status: str = "True", seconds: float = 240
) -> Document:
    """The study, once a condition has this status.

    Raises:
        AssertionError: when it has not in time; with conditions and trials, to see why.
    """
    end = time.monotonic() + seconds
    while True:
        document = api.get(path(namespace, name))
        if condition(document, kind).get("status") == status:
            return document
        if time.monotonic() > end:
            states = [
                (t["spec"]["number"], *(t.get("status", {}).get(k) for k in ("state", "reason", "message")))
                for t in trials(api, namespace)
            ]
            conditions = document.get("status", {}).get("conditions")
            raise AssertionError(f"{kind} is not {status}: {conditions}\n{states}")
        time.sleep(0.1)


def bound_claim(
    namespace: str, name: str, folder: Path, labels: Mapping[str, str] | None = None
) -> list[Document]:
    """A PersistentVolume of its own (`NAMESPACE-NAME`, at `folder`) and a claim on it, many writers."""
    volume, size = f"{namespace}-{name}", {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": {
                **common,
                "capacity": size,
                "hostPath": {"path": str(folder)},
                "claimRef": {"namespace": namespace, "name": name},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
            "spec": {**common, "volumeName": volume, "resources": {"requests": size}},
        },
    ]
