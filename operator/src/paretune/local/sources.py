"""Where model and data of a recipe come from, and which of the data its settings need."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.settings import (
    STATIC_SCHEMES,
    Algorithm,
    Allocation,
    ClusteringStage,
    QuantizationTraining,
    Settings,
    SparsityPattern,
)
from paretune_contract.stages import IntakeRequest
from paretune_contract.training import ResolvedTraining, Training

from ..api import OptimizationStudy
from ..api.study import EvaluationLimit
from ..search.made_with import MadeWith
from .accept import intake_request

MANIFEST = "manifest"
"""The origin of a training setting that the manifest gives; one without an origin has no other."""


@dataclass(frozen=True)
class Sources:
    """What a stage reads to follow a recipe. URIs are absolute.

    Attributes:
        model: URI of the model; None where nothing tells it.
        data: the parts of the data set that are known.
        scaling: how data become the model's inputs.
        training: what the manifest says of fine-tuning.
        metrics: quality metrics that are evaluated.
        evaluation_seconds: an evaluation stops here and reports the samples used.
    """

    model: str | None = None
    data: Mapping[Split, DataRequest] = field(default_factory=dict)
    scaling: Scaling = field(default_factory=Scaling)
    training: Training = field(default_factory=Training)
    metrics: tuple[str, ...] = ()
    evaluation_seconds: float = field(default_factory=lambda: EvaluationLimit().seconds)

    def only(self, splits: frozenset[Split]) -> "Sources":
        """The same with some parts of the data alone: nothing else is fetched."""
        return replace(self, data={split: one for split, one in self.data.items() if split in splits})


def of_study(study: OptimizationStudy, base: Path) -> Sources:
    """What a manifest says; its relative URIs are relative to `base`."""
    return of_request(intake_request(study, base, base), study.spec.evaluation.seconds)


def of_request(request: IntakeRequest, evaluation_seconds: float) -> Sources:
    """What an intake was asked."""
    return Sources(
        model=request.model_uri,
        data=dict(request.dataset),
        scaling=request.scaling,
        training=request.training,
        metrics=request.metrics,
        evaluation_seconds=evaluation_seconds,
    )


def of_record(made: MadeWith, metrics: tuple[str, ...]) -> Sources:
    """What the front itself says: no URI, which may hold a secret, but how data are read and trained on."""
    return Sources(scaling=made.scaling, training=said_of_training(made.training), metrics=metrics)


def said_of_training(resolved: ResolvedTraining | None) -> Training:
    """What a manifest must have said of fine-tuning for this to come out; the rest was the model's own."""
    if resolved is None:
        return Training()
    said: dict[str, Any] = {
        name: getattr(resolved, name)
        for name, one in Training.model_fields.items()
        if name in ResolvedTraining.model_fields
        and resolved.origin.get(one.alias or name, MANIFEST) == MANIFEST
    }
    return Training(**said)


def needed(settings: Settings) -> dict[Split, str]:
    """The parts of the data that settings cannot do without, and what needs them, in a word or two."""
    found: dict[Split, str] = {}
    for split, why in _needs(settings):
        found.setdefault(split, why)
    return found


def _needs(settings: Settings) -> Iterator[tuple[Split, str]]:
    parts = [
        (settings.quantization, settings.sparsity, settings.clustering),
        *((layer.quantization, layer.sparsity, layer.clustering) for layer in settings.layers),
    ]
    for q, s, c in parts:
        if q is not None and q.scheme in STATIC_SCHEMES:
            yield Split.CALIBRATION, q.scheme.value
        if q is not None and q.algorithm is Algorithm.GPTQ:
            yield Split.CALIBRATION, "gptq"
        if q is not None and q.bias_correction:
            yield Split.CALIBRATION, "bias correction"
        if q is not None and q.training is QuantizationTraining.AWARE:
            yield Split.TRAIN, "quantization-aware training"
        if s is not None and s.pattern is not SparsityPattern.NONE:
            yield Split.TRAIN, "sparsity"
        if c is not None and c.stage is ClusteringStage.TRAINING:
            yield Split.TRAIN, "clustering while training"
    if settings.allocation is Allocation.SENSITIVITY:
        yield Split.CALIBRATION, "allocation by sensitivity"
    if settings.rate.ratio > 0:
        yield Split.TRAIN, "rate-aware training"
