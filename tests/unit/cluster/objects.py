"""Studies, pools, tasks and records for tests of the cluster's pure modules."""

from typing import Any

from paretune.api import DevicePool, OptimizationStudy
from paretune.api.study import DeviceStatus, StudyStatus
from paretune.cluster.config import Images, OperatorConfig
from paretune_contract.settings import Settings
from paretune_contract.task import BenchmarkTask, CompressTask, PurgeTask, Store, StoreKind, Task

UID = "0f7c1f3e-5a3b-4c3e-9f43-2f6a1c0d9e11"
SHA = "a" * 64
STORE = Store(
    kind=StoreKind.BUCKET, uri="s3://bucket/prefix", credentials="store", study=f"team/{UID}",
    steps="team/steps",
)  # fmt: skip
OWNER = {
    "apiVersion": "paretune.dev/v1alpha1",
    "kind": "OptimizationTrial",
    "name": "toy-0007",
    "uid": "1",
    "controller": True,
    "blockOwnerDeletion": True,
}


def config(**fields: Any) -> OperatorConfig:
    images = Images(compress="reg/compress:1", benchmark="reg/benchmark:1", operator="reg/operator:1")
    return OperatorConfig.model_validate({"images": images, **fields})


def study(name: str = "toy", metadata: dict[str, Any] | None = None, **spec: Any) -> OptimizationStudy:
    """A study in the namespace `team`, accepted, whose model and data are in a bucket."""
    found = OptimizationStudy.model_validate(
        {
            "metadata": {"name": name, "namespace": "team", "uid": UID, **(metadata or {})},
            "spec": {
                "model": {"uri": "s3://bucket/m.keras"},
                "dataset": {
                    part: {"uri": f"s3://bucket/{part}.npz"}
                    for part in ("train", "calibration", "evaluation")
                },
                "objectives": [{"metric": "accuracy"}, {"metric": "downloadSize"}, {"metric": "latency"}],
                **spec,
            },
        }
    )
    devices = {
        d.name: DeviceStatus(pool=d.pool or "default", runtime=d.effective_runtime or "litert", threads=2)
        for d in found.spec.effective_devices
    }
    return found.model_copy(update={"status": StudyStatus(devices=devices)})


def pool(name: str = "pi", **spec: Any) -> DevicePool:
    return DevicePool.model_validate({"metadata": {"name": name}, "spec": spec})


def compress_task(settings: Settings | None = None) -> Task:
    return Task(store=STORE, name="0007-compress", compress=CompressTask(settings=settings or Settings()))


def benchmark_task() -> Task:
    part = BenchmarkTask(candidate=SHA, reference=SHA, device="pi")
    return Task(store=STORE, name="0007-benchmark-pi", benchmark=part)


def purge_task() -> Task:
    return Task(store=STORE, name="purge", purge=PurgeTask())


def expanded(value: str, known: dict[str, str]) -> str:
    """A variable's value as a container sees it, by the rules of k8s.io/kubernetes/third_party/forked/golang/
    expansion."""
    out, i = "", 0
    while i < len(value):
        rest = value[i + 1 :]
        if value[i] != "$" or not rest:
            out, i = out + value[i], i + 1
        elif rest[0] == "$":
            out, i = out + "$", i + 2
        elif rest[0] == "(" and ")" in rest:
            name = rest[1 : rest.index(")")]
            out, i = out + known.get(name, f"$({name})"), i + 1 + len(name) + 2
        else:
            out, i = out + value[i : i + 2], i + 2
    return out
