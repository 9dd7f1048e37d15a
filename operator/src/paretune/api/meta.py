"""Kubernetes object metadata, as far as Paretune reads it."""

from typing import Annotated, Literal

from paretune_contract.base import TolerantDocument
from pydantic import Field

GROUP = "paretune.dev"
VERSION = "v1alpha1"
API_VERSION: Literal["paretune.dev/v1alpha1"] = "paretune.dev/v1alpha1"


class Metadata(TolerantDocument):
    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: str | None = None
    uid: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
