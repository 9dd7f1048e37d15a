"""A made-up study with an analytical answer: accuracy, bytes and time are formulas of the settings."""

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from paretune.api import Ask, OptimizationStudy, OptimizationTrial, State
from paretune.api.meta import Metadata
from paretune.api.study import StudySpec
from paretune.api.trial import FinalMeasurement, TrialArtifact, TrialSpec, TrialStatus
from paretune.search.objectives import resolve
from paretune.search.sampler import SpaceExhausted, suggest
from paretune.search.space import BASELINE, SearchSpace, available
from paretune_contract.dataset import DataInfo, Split
from paretune_contract.failure import Reason
from paretune_contract.measurement import Measurement, Metrics, wilson
from paretune_contract.model import LayerInfo, ModelInfo, SourceFormat
from paretune_contract.settings import (
    Allocation,
    ClusteringStage,
    Granularity,
    QuantizationTraining,
    Scheme,
    Settings,
    SparsityPattern,
)
from paretune_contract.stages import IntakeResult
from paretune_contract.summary import IntakeSummary, summarize
from paretune_contract.training import Loss, Optimizer, ResolvedTraining

BITS = {
    Scheme.NONE: 32, Scheme.FLOAT16: 16, Scheme.INT16X8: 8, Scheme.DYNAMIC: 8, Scheme.INT8: 8, Scheme.INT4: 4,
}  # fmt: skip
DROP = {
    Scheme.NONE: 0, Scheme.FLOAT16: 0, Scheme.INT16X8: 0.001, Scheme.DYNAMIC: 0.002, Scheme.INT8: 0.003,
    Scheme.INT4: 0.02,
}  # fmt: skip
SPEED = {
    Scheme.NONE: 1.0, Scheme.FLOAT16: 1.05, Scheme.INT16X8: 3.0, Scheme.DYNAMIC: 0.7, Scheme.INT8: 0.4,
    Scheme.INT4: 0.45,
}  # fmt: skip
WEIGHTS = 100_000
OBJECTIVES = ({"metric": "accuracy", "maxDrop": 0.03}, {"metric": "downloadSize"}, {"metric": "latency"})


def spec(objectives: Sequence[dict[str, Any]] = OBJECTIVES, **fields: Any) -> StudySpec:
    data = {name: {"uri": f"{name}.npz"} for name in ("train", "calibration", "evaluation")}
    return StudySpec.model_validate(
        {"model": {"uri": "m.keras"}, "dataset": data, "objectives": list(objectives), **fields}
    )


def study(manifest: StudySpec) -> OptimizationStudy:
    return OptimizationStudy(metadata=Metadata(name="toy"), spec=manifest)


def layer(name: str = "conv", operator: str = "CONV_2D", **fields: Any) -> LayerInfo:
    defaults = {
        "trainable": True,
        "prunable": True,
        "clusterable": True,
        "int4": operator == "CONV_2D",
        "weight_shape": (8, 3, 3, 8),
    }
    return LayerInfo(
        name=name, operator=operator, weight_tensor=1, weights=576, macs=1000,
        **{**defaults, **fields},
    )  # fmt: skip


def intake(
    splits: Sequence[Split] = (Split.TRAIN, Split.CALIBRATION, Split.EVALUATION),
    layers: Sequence[LayerInfo] = (layer(), layer("conv_1"), layer("conv_2")),
    untrainable: tuple[str, ...] = (),
) -> IntakeSummary:
    model = ModelInfo(
        uri="m.keras", format=SourceFormat.KERAS, source_sha256="0" * 64, path="/m.tflite", sha256="0" * 64,
        bytes=4 * WEIGHTS, inputs=(), outputs=(), layers=tuple(layers), parameters=WEIGHTS, macs=1000,
        untrainable=untrainable,
    )  # fmt: skip
    data = {
        s: DataInfo(split=s, uri="x.npz", folder="/x", digest="0" * 64, samples=100, inputs={})
        for s in splits
    }
    training = ResolvedTraining(
        epochs=1, batch_size=32, optimizer=Optimizer.ADAM, learning_rate=1e-3,
        loss=Loss.CATEGORICAL_CROSSENTROPY, distill=0.5,
    )  # fmt: skip
    trains = Split.TRAIN in splits and not untrainable
    return summarize(IntakeResult(model=model, data=data, training=training if trains else None))


def measure(settings: Settings) -> Metrics:
    """Formulas in place of a compressor and a device."""
    q, s, c = settings.quantization, settings.sparsity, settings.clustering
    bits = q.bits or float(BITS[q.scheme])
    tensor, aware = q.granularity is Granularity.TENSOR, q.training is QuantizationTraining.AWARE
    zeros = 0.5 if s.pattern is SparsityPattern.TWO_OF_FOUR else s.level
    alike = 1.0 if settings.allocation is Allocation.UNIFORM else 0.7
    drop = DROP[q.scheme] * (2 if tensor else 1) * (0.8 if aware else 1) + alike * 0.05 * zeros**4 * (
        1 + 4 / bits
    )
    if q.bits:
        drop -= 0.003 * (q.bits - 4)
    if c.stage is not ClusteringStage.NONE:
        drop += alike * (0.15 if c.stage is ClusteringStage.INT8 else 0.08) / c.clusters
        bits = min(bits, math.log2(c.clusters))
    entropy = 0.0 if zeros in (0, 1) else -zeros * math.log2(zeros) - (1 - zeros) * math.log2(1 - zeros)
    coded = WEIGHTS / 8 * (0.9 * bits * (1 - zeros) + entropy) + (0 if tensor else 2_000)
    if settings.rate.ratio:
        coded = WEIGHTS * 4 * settings.rate.ratio
        drop += 0.0004 / settings.rate.ratio
    size = WEIGHTS / 8 * (q.bits or BITS[q.scheme]) + 3_000
    latency = 0.01 * SPEED[q.scheme] * (0.98 if tensor else 1)
    return {
        "accuracy": wilson(round((0.9 - drop) * 10_000), 10_000),
        "downloadSize": Measurement.exact(round(coded)),
        "modelSize": Measurement.exact(round(size)),
        "latency/cpu": Measurement(value=latency, low=latency * 0.99, high=latency * 1.01),
        "latencyRatio/cpu": Measurement(value=latency / 0.01, low=latency / 0.0101, high=latency / 0.0099),
    }


def record(
    number: int,
    settings: Settings = BASELINE,
    ask: Ask | None = None,
    state: State = State.COMPLETE,
    metrics: Metrics | None = None,
    sha256: str | None = None,
    final: FinalMeasurement | None = None,
    reason: str = "",
) -> OptimizationTrial:
    found = measure(settings) if metrics is None else metrics
    sha = sha256 or hashlib.sha256(settings.digest().encode()).hexdigest()
    status = TrialStatus(
        state=state,
        reason=reason,
        metrics=found if state in (State.COMPLETE, State.INFEASIBLE, State.PRUNED) else {},
        artifact=None
        if state is State.FAILED
        else TrialArtifact(uri=f"candidates/{sha}.tflite", sha256=sha, bytes=1000),
        final=final,
    )
    origin = "baseline" if number == 0 else "sampler"
    return OptimizationTrial(
        metadata=Metadata(name=f"toy-{number:04d}"),
        spec=TrialSpec(
            study_name="toy",
            number=number,
            settings=settings,
            ask=ask or Ask(seed=0, seen="", origin=origin),
        ),
        status=status,
    )


def values(**numbers: float) -> Metrics:
    """Exact metrics by name; `__` stands for the slash: `latency__cpu`."""
    return {name.replace("__", "/"): Measurement.exact(value) for name, value in numbers.items()}


def finish(trial: OptimizationTrial, outcome: Callable[[Settings], Metrics | None]) -> OptimizationTrial:
    """The record with its result; without metrics the candidate has crashed."""
    metrics = outcome(trial.settings)
    if metrics is None:
        return record(
            trial.number, trial.settings, trial.spec.ask, State.FAILED, reason=Reason.NOT_RUNNABLE.value
        )
    return record(trial.number, trial.settings, trial.spec.ask, metrics=metrics)


def search(
    manifest: StudySpec,
    count: int,
    seed: int = 0,
    sampler: str = "auto",
    parallelism: int = 1,
    outcome: Callable[[Settings], Metrics | None] = measure,
    space: SearchSpace | None = None,
    trials: Sequence[OptimizationTrial] = (),
    arrivals: int = 0,
) -> list[OptimizationTrial]:
    """Run a study to `count` trials; with parallelism, results arrive in an order drawn from `arrivals`."""
    chance = random.Random(arrivals)
    space = space or available(manifest, intake())
    objectives = resolve(manifest)
    records = list(trials)
    while True:
        running = [i for i, t in enumerate(records) if not t.final]
        try:
            while len(records) < count and len(running) < (parallelism if records else 1):
                number = len(records)
                found = suggest(space, objectives, seed, sampler, number, records)
                records.append(record(number, found.settings, found.ask, State.PENDING))
                running.append(number)
        except SpaceExhausted:
            if not running:
                return records
        if not running:
            return records
        number = chance.choice(running)
        records[number] = finish(records[number], outcome)


def paths(trials: Sequence[OptimizationTrial]) -> list[dict[str, Any]]:
    return [t.settings.canonical() for t in trials]
