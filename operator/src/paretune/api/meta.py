"""Kubernetes object metadata and conditions, as far as Paretune reads and writes them."""

from typing import Annotated, Any, Literal

from paretune_contract.base import Document, Sentence, TolerantDocument
from pydantic import Field

from .schema import ObjectName, ResourceQuantity

GROUP = "paretune.dev"
VERSION = "v1alpha1"
API_VERSION: Literal["paretune.dev/v1alpha1"] = "paretune.dev/v1alpha1"


class Metadata(TolerantDocument):
    """Standard object metadata. What Paretune does not read is left to Kubernetes."""

    name: ObjectName = Field(description="Name, unique in its namespace.")
    namespace: Annotated[str, Field(max_length=63)] | None = Field(None, description="Namespace.")
    uid: Annotated[str, Field(max_length=64)] | None = Field(None, description="Set by the API server.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels.")
    annotations: dict[str, str] = Field(default_factory=dict, description="Annotations.")


class Condition(TolerantDocument):
    """One aspect of the object's state (meta/v1 Condition)."""

    type: Annotated[str, Field(min_length=1, max_length=316)] = Field(
        description="Aspect: Ready, Progressing, Complete or Failed."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: Annotated[int, Field(ge=0)] = Field(
        0, description="metadata.generation that this was decided for."
    )
    last_transition_time: Annotated[str, Field(max_length=64)] = Field(
        description="When `status` changed last (RFC 3339).",
        json_schema_extra={"x-crd": {"format": "date-time"}},
    )
    reason: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="Machine-readable cause in CamelCase."
    )
    message: Sentence = Field("", description="A sentence for people.")


CONDITION_LIST: dict[str, Any] = {
    "x-crd": {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
}
"""Conditions are merged by their type."""


class Resources(Document):
    """CPU, memory and devices of a container."""

    limits: Annotated[dict[str, ResourceQuantity], Field(max_length=16)] = Field(
        default_factory=dict, description="The most that a container may use, by resource name."
    )
    requests: Annotated[dict[str, ResourceQuantity], Field(max_length=16)] = Field(
        default_factory=dict, description="What is set aside for a container; absent: its limits."
    )


Labels = Annotated[
    dict[str, Annotated[str, Field(max_length=63)]],
    Field(max_length=32),
]


class LabelRequirement(Document):
    """One condition on labels."""

    key: Annotated[str, Field(min_length=1, max_length=317)] = Field(description="Label key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label relates to `values`."
    )
    values: Annotated[tuple[Annotated[str, Field(max_length=63)], ...], Field(max_length=32)] = Field(
        (), description="Values for In and NotIn."
    )


class LabelSelector(Document):
    """A selection by labels; empty selects everything."""

    match_labels: Labels = Field(default_factory=dict, description="Labels that must all be there.")
    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=16)] = Field(
        (), description="Conditions that must all hold."
    )
