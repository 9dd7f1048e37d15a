"""DevicePool: where benchmarks run; cluster-scoped, the admin's."""

from typing import Any, Literal

from paretune_contract.base import Document
from pydantic import Field

from .meta import API_VERSION, Metadata
from .study import Runtime


class PoolSpec(Document):
    runtime: Runtime = Runtime.LITERT
    target: str | None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    affinity: dict[str, Any] | None = None
    tolerations: tuple[dict[str, Any], ...] = ()
    resources: dict[str, dict[str, int | str]] = Field(default_factory=dict)
    runtime_class_name: str | None = None
    image: str | None = None
    threads: int = 1
    max_concurrent: int = 1
    pending_deadline: int | str = "1h"
    namespaces: dict[str, Any] = Field(default_factory=dict)


class DevicePool(Document):
    api_version: Literal["paretune.dev/v1alpha1"] = API_VERSION
    kind: Literal["DevicePool"] = "DevicePool"
    metadata: Metadata
    spec: PoolSpec
