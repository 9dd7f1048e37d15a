"""DevicePool: where benchmarks run; cluster-scoped, the admin's."""

from typing import Annotated, Any, Literal

from paretune_contract.base import Document, Sentence, TolerantDocument
from paretune_contract.quantity import seconds
from pydantic import ConfigDict, Field

from .meta import API_VERSION, CONDITION_LIST, Condition, Labels, LabelSelector, Metadata, Resources
from .schema import Duration, ObjectName, Target, rule, rules
from .study import Runtime, target_rules

IMAGE_PATTERN = r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$"


class Toleration(Document):
    """A taint that benchmark pods tolerate (core/v1 Toleration)."""

    key: Annotated[str, Field(max_length=317)] | None = Field(None, description="Taint key; absent: any.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="How the taint is compared.")
    value: Annotated[str, Field(max_length=63)] | None = Field(None, description="Taint value, for Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint effect; absent: any."
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=10**9)] | None = Field(
        None, description="How long a NoExecute taint is tolerated."
    )


class PoolSpec(Document):
    """Which nodes are the pool, and how benchmark pods run on them."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.target) || self.runtime in ['ethos-u', 'tflm']",
                "runtimes litert and edgetpu have no targets; leave target out",
                ".target",
            ),
            *target_rules("self.runtime == 'ethos-u'"),
        )
    )

    runtime: Runtime = Field(Runtime.LITERT, description="Runtime that executes the model.")
    target: Target | None = Field(
        None, description="Accelerator configuration as the runtime names it, such as ethos-u55-128."
    )
    node_selector: Labels = Field(
        default_factory=dict, description="Labels of the pool's nodes; empty: any node."
    )
    affinity: dict[str, Any] | None = Field(
        None,
        description="Affinity of benchmark pods (core/v1 Affinity), beside `nodeSelector`.",
        json_schema_extra={"x-crd": {"x-kubernetes-preserve-unknown-fields": True}},
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = Field(
        (), description="Taints that benchmark pods tolerate."
    )
    resources: Resources = Field(
        default_factory=Resources,
        description="Resources of a benchmark container, such as a device plugin's device.",
    )
    runtime_class_name: ObjectName | None = Field(None, description="RuntimeClass of benchmark pods.")
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=IMAGE_PATTERN)] | None = Field(
        None, description="Image of the benchmark stage; absent: the operator's own."
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="Threads of the runtime where a study does not say."
    )
    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="Benchmark pods at a time over the whole pool; on one node there is always one."
    )
    pending_deadline: Duration = Field(
        "1h",
        description="How long a benchmark waits for a node before it fails: seconds, or text such as 1h.",
    )
    namespaces: LabelSelector = Field(
        default_factory=LabelSelector,
        description="Labels of the namespaces whose studies may use the pool; empty: all.",
    )

    @property
    def pending_seconds(self) -> float:
        """`pendingDeadline` in seconds."""
        return seconds(self.pending_deadline)


class PoolStatus(TolerantDocument):
    """What the operator sees of the pool."""

    observed_generation: Annotated[int, Field(ge=0)] = Field(
        0, description="metadata.generation that this status was made for."
    )
    nodes: Annotated[int, Field(ge=0)] = Field(0, description="Nodes that match and are ready.")
    running: Annotated[int, Field(ge=0)] = Field(0, description="Benchmark pods on the pool.")
    message: Sentence = Field("", description="A sentence for people.")
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = Field(
        (), description="Ready: the pool can be used.", json_schema_extra=CONDITION_LIST
    )


class DevicePool(Document):
    """A set of like nodes on which candidates are benchmarked. Only administrators write it."""

    api_version: Literal["paretune.dev/v1alpha1"] = Field(API_VERSION, description="API version.")
    kind: Literal["DevicePool"] = Field("DevicePool", description="Kind of the object.")
    metadata: Metadata = Field(description="Standard object metadata.")
    spec: PoolSpec = Field(
        default_factory=PoolSpec, description="Which nodes are the pool, and how pods run on them."
    )
    status: PoolStatus = Field(default_factory=PoolStatus, description="Written by the operator.")
