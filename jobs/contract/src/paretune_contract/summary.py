"""What of an intake decides on a search: small enough for a termination message and a status."""

from typing import Annotated

from pydantic import Field

from .base import Line, Sentence, TolerantDocument
from .dataset import Split
from .model import ModelInfo, SourceFormat
from .stages import IntakeResult
from .training import ResolvedTraining

Digest = Annotated[str, Field(max_length=64)]
Count = Annotated[int, Field(ge=0)]
NAMED = 8
"""Operators that a summary names at most."""


class ModelSummary(TolerantDocument):
    """The normalized model in numbers, and which techniques some layer of it allows."""

    format: SourceFormat = Field(description="Format of the source.")
    source_sha256: Digest = Field(description="sha256 of the source, hex.")
    sha256: Digest = Field(description="sha256 of the float .tflite, hex.")
    bytes: Count = Field(description="Size of the float .tflite.")
    parameters: Count = Field(description="Weights and biases.")
    macs: Count = Field(description="Multiply-accumulates of one inference.")
    layers: Count = Field(description="Operators with weights.")
    operators: Annotated[tuple[Line, ...], Field(max_length=NAMED)] = Field(
        (), description="Operators with weights, by name."
    )
    prunable: bool = Field(description="Sparsity applies to some layer.")
    prunable_layers: Count = Field(0, description="Layers that sparsity applies to.")
    two_of_four: bool = Field(description="Some prunable layer has input channels in multiples of four.")
    clusterable: bool = Field(description="Clustering applies to some layer.")
    int4: bool = Field(description="int4 weights are possible and worth it in some layer.")
    untrainable: Annotated[tuple[Line, ...], Field(max_length=NAMED)] = Field(
        (), description="Operators that fine-tuning cannot pass a gradient through; empty: trainable."
    )


class SplitSummary(TolerantDocument):
    """One part of the data set."""

    samples: Count = Field(description="Samples that there are.")
    digest: Digest = Field(description="sha256 over the arrays, hex.")
    labels: bool = Field(description="The part has labels.")


class IntakeSummary(TolerantDocument):
    """An intake in brief. The whole of it, with every layer, lies beside the model in the store."""

    model: ModelSummary = Field(description="The normalized model.")
    data: Annotated[dict[Split, SplitSummary], Field(max_length=4)] = Field(description="The data's parts.")
    training: ResolvedTraining | None = Field(
        None, description="How fine-tuning is done; absent where there is nothing to train with."
    )
    notes: Annotated[tuple[Sentence, ...], Field(max_length=16)] = Field(
        (), description="Sentences for people, such as an added axis."
    )


def summarize(intake: IntakeResult) -> IntakeSummary:
    """The summary of an intake that succeeded.

    Raises:
        ValueError: when the intake has no model.
    """
    if intake.model is None:
        raise ValueError("intake found no model")
    return IntakeSummary(
        model=_model(intake.model),
        data={
            split: SplitSummary(samples=info.samples, digest=info.digest, labels=info.labels is not None)
            for split, info in intake.data.items()
        },
        training=intake.training,
        notes=intake.notes[:16],
    )


def _model(model: ModelInfo) -> ModelSummary:
    prunable = [layer for layer in model.layers if layer.prunable]
    return ModelSummary(
        format=model.format,
        source_sha256=model.source_sha256,
        sha256=model.sha256,
        bytes=model.bytes,
        parameters=model.parameters,
        macs=model.macs,
        layers=len(model.layers),
        operators=tuple(sorted({layer.operator for layer in model.layers})[:NAMED]),
        prunable=bool(prunable),
        prunable_layers=len(prunable),
        two_of_four=any(layer.weight_shape[-1] % 4 == 0 for layer in prunable),
        clusterable=any(layer.clusterable for layer in model.layers),
        int4=any(layer.int4 for layer in prunable),
        untrainable=model.untrainable[:NAMED],
    )
