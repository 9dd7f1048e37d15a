"""The first trials: the baseline, the reference, and good guesses, so that the sampler starts from something.

They need no look at the model: a study with the same space begins with the same trials.
"""

from collections.abc import Iterator
from typing import Any, Literal

from paretune_contract.settings import (
    INTEGER_SCHEMES,
    STATIC_SCHEMES,
    Algorithm,
    Allocation,
    Clustering,
    ClusteringStage,
    Granularity,
    Quantization,
    QuantizationTraining,
    Rate,
    Scheme,
    Settings,
    Sparsity,
    SparsityPattern,
)

from .choices import BASELINE, SearchSpace

Origin = Literal["baseline", "reference", "prior"]
LIMIT = 11
"""Most trials that do not come from the sampler."""


def first_trials(space: SearchSpace) -> tuple[tuple[Settings, Origin], ...]:
    """Settings of trials 0, 1, 2, ... with their origin.

    Trial 0 is the untouched model; trial 1 is plain int8 where the space has it; then up to nine guesses,
    from the ones that cost nothing to the ones that are fine-tuned. Settings that the space does not contain
    are left out, and so the list may be short.
    """
    found: dict[str, tuple[Settings, Origin]] = {BASELINE.digest(): (BASELINE, "baseline")}
    reference = space.reference or _settings(space, Scheme.INT8, Granularity.CHANNEL)
    if reference == space.reference or space.contains(reference):
        found.setdefault(reference.digest(), (reference, "reference"))
    for guess in _guesses(space):
        if len(found) < LIMIT and space.contains(guess):
            found.setdefault(guess.digest(), (guess, "prior"))
    return tuple(found.values())


def _guesses(space: SearchSpace) -> Iterator[Settings]:
    channel, tensor = Granularity.CHANNEL, Granularity.TENSOR
    yield _settings(space, Scheme.INT8, tensor)
    yield _settings(space, Scheme.DYNAMIC, channel)
    yield _settings(space, Scheme.FLOAT16, channel)
    yield _settings(space, Scheme.INT4, channel, aware=True)  # not trained for it, it is rarely good enough
    best = next((s for s in (Scheme.INT8, Scheme.DYNAMIC) if s in space.schemes), space.schemes[-1])
    yield _settings(space, best, tensor, clusters=32)
    yield _settings(space, best, tensor, level=0.5, divided=True)
    yield _settings(space, best, tensor, level=0.5, clusters=16, divided=True)
    for share in (1 / 4, 1 / 2, 3 / 4):
        yield _settings(space, best, tensor, ratio=share)
    yield _settings(space, best, tensor, level=0.75, clusters=16, divided=True)
    yield _settings(space, Scheme.INT4, channel, bits=5.0, divided=True)
    yield _settings(space, best, tensor, pattern=SparsityPattern.TWO_OF_FOUR)
    yield _settings(space, Scheme.INT4, channel, level=0.5)
    yield _settings(space, Scheme.INT16X8, channel)


def _settings(
    space: SearchSpace,
    scheme: Scheme,
    granularity: Granularity,
    *,
    pattern: SparsityPattern = SparsityPattern.UNSTRUCTURED,
    level: float = 0.0,
    clusters: int = 0,
    bits: float = 0.0,
    divided: bool = False,
    aware: bool = False,
    ratio: float = 0.0,
) -> Settings:
    """Settings as near to what is asked as the space's options allow.

    `divided` asks for an allocation by sensitivity. `ratio` is a place among the budgets of coded bytes,
    from the largest (0) to the smallest (1).
    """
    if granularity not in space.granularities:
        granularity = space.granularities[0]
    wanted = Allocation.SENSITIVITY if divided else Allocation.UNIFORM
    allocation = wanted if wanted in space.allocations else space.allocations[0]
    sparse: dict[str, Any] = {}
    if pattern is SparsityPattern.TWO_OF_FOUR:
        sparse = {"pattern": pattern}
    elif level > 0 and space.levels:
        sparse = {"pattern": pattern, "level": min(space.levels, key=lambda v: (abs(v - level), v))}
    if sparse:
        sparse["encoding"] = space.encodings_of(scheme, **sparse)[0]
    clustering = Clustering()
    if clusters > 0 and space.clusters:
        integer = scheme in INTEGER_SCHEMES and ClusteringStage.INT8 in space.stages
        clustering = Clustering(
            stage=ClusteringStage.INT8 if integer else ClusteringStage.TRAINING,
            clusters=min(space.clusters, key=lambda v: (abs(v - clusters), v)),
        )
    training = space.trainings[-1 if aware else 0]
    numbers: dict[str, Any] = {"calibration_samples": space.calibration_samples[-1]}
    if training is QuantizationTraining.NONE and not ratio:
        _, algorithms = space.algorithms_with(clustering.stage)
        numbers["algorithm"] = Algorithm.MIN_MAX if Algorithm.MIN_MAX in algorithms else algorithms[0]
        numbers["bias_correction"] = space.bias_corrections[0]
    return Settings(
        quantization=Quantization(
            scheme=scheme,
            granularity=granularity,
            training=training,
            bits=min(space.bits, key=lambda v: (abs(v - bits), v)) if bits and space.bits else 0.0,
            **({"io": space.ios[0]} if scheme in STATIC_SCHEMES else {}),
            **numbers,
        ),
        rate=Rate(ratio=space.ratios[round(ratio * (len(space.ratios) - 1))])
        if ratio and space.ratios
        else Rate(),
        sparsity=Sparsity(**sparse),
        clustering=clustering,
        allocation=allocation,
        layers=space.layers,
    )
