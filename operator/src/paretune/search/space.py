"""Which part of the manifest's space model, data and devices allow, and why the rest is left out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from paretune_contract.dataset import Split
from paretune_contract.measurement import DEVICE_METRICS, DOWNLOAD_SIZE
from paretune_contract.settings import (
    DIVISIBLE_PATTERNS,
    INTEGER_SCHEMES,
    LEVELED_PATTERNS,
    MOST_CALIBRATED,
    PATTERNS_WITH_ZEROS,
    REACHED,
    STATIC_SCHEMES,
    Algorithm,
    Allocation,
    ClusteringStage,
    Granularity,
    InputOutput,
    LayerSettings,
    Quantization,
    QuantizationTraining,
    Scheme,
    Settings,
    SparsityEncoding,
    SparsityPattern,
)
from paretune_contract.summary import IntakeSummary, ModelSummary
from paretune_contract.training import TFMOT_CLUSTERS_BESIDE_ZEROS, TrainerKind

from ..api import Runtime
from ..api.study import RUNNABLE, SPARSE_RUNTIMES, RateStage, SparsitySpace, StudySpec
from . import tfmot
from .choices import BASELINE, LEAST_ENCODED, SearchSpace, Withheld, zeros_of_their_own

__all__ = ["BASELINE", "SearchSpace", "SpaceError", "Withheld", "available", "pools_of"]

T = TypeVar("T")

BY_BITS = (Scheme.NONE, Scheme.FLOAT16, Scheme.INT16X8, Scheme.DYNAMIC, Scheme.INT8, Scheme.INT4)
"""Schemes in the order of decreasing bits of weights and activations."""

LEVEL_STEP_PERCENT = 5
LOWEST_LEVEL_PERCENT = 10
RATIO_STEP, FEWEST_RATIOS = 2**0.25, 8
MIXES = (7.0, 6.0, 5.0, 4.5)
FEWEST_LAYERS = 3
"""With fewer layers of some size there is nothing to speak of that an allocation could move."""
CLUSTER_STEPS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


class SpaceError(ValueError):
    """The manifest asks for what model, data or devices do not allow; the message names the field."""


def pools_of(spec: StudySpec) -> dict[str, Runtime]:
    """Runtime of each device as the manifest tells it; litert where a pool knows better."""
    return {d.name: d.effective_runtime or Runtime.LITERT for d in spec.effective_devices}


def available(
    spec: StudySpec, intake: IntakeSummary, pools: Mapping[str, Runtime] | None = None
) -> SearchSpace:
    """The space that is left for this model, data and devices.

    Args:
        spec: the study.
        intake: what intake found.
        pools: runtime of each device, by name; absent: as the manifest tells it.

    Raises:
        SpaceError: when `space.layers` asks for what cannot be done here, or a device can run nothing.
    """
    given = _Given(spec, intake, pools_of(spec) if pools is None else pools)
    withheld: list[Withheld] = []

    order = sorted(spec.space.quantization.schemes, key=BY_BITS.index)
    forced = Settings(layers=spec.space.layers).layers
    _check_layers(forced, given)

    def why_not(scheme: Scheme) -> str:
        return _why_no_scheme(scheme, given) or _why_not_with_layers(scheme, forced)

    schemes = _offer(order, why_not, lambda s: s.value, withheld) or (_fallback(given),)
    trainings = _trainings(given, schemes, withheld)
    encodings = _encodings(given, schemes, forced, withheld)
    patterns, integer_zeros = _patterns(given, schemes, encodings, forced, withheld)
    stages = _stages(given, schemes, withheld)
    allocations = _allocations(given, schemes, patterns, stages, withheld)
    rated = _rated(given, schemes, forced, withheld)

    return SearchSpace(
        schemes=schemes,
        granularities=_unique(spec.space.quantization.granularity, tuple(Granularity))
        if INTEGER_SCHEMES & set(schemes)
        else (Granularity.CHANNEL,),
        trainings=trainings,
        ios=_unique(spec.space.quantization.io, tuple(InputOutput))
        if STATIC_SCHEMES & set(schemes)
        else (InputOutput.FLOAT32,),
        algorithms=_algorithms(given, schemes, withheld),
        calibration_samples=_calibration_samples(given, schemes, withheld),
        bias_corrections=_bias_corrections(given, schemes, withheld),
        patterns=patterns,
        integer_zeros=integer_zeros,
        level_of=spec.space.sparsity.level_of,
        levels=_levels(spec.space.sparsity.max) if LEVELED_PATTERNS & set(patterns) else (),
        encodings=encodings,
        stages=stages,
        clusters=_cluster_steps(given) if set(stages) != {ClusteringStage.NONE} else (),
        clusters_beside_zeros=_clusters_beside_zeros(given, patterns, stages, forced, withheld),
        allocations=allocations,
        bits=MIXES if Scheme.INT4 in schemes and Allocation.SENSITIVITY in allocations else (),
        rated=rated,
        ratios=_ratios(spec) if True in rated else (),
        layers=forced,
        reference=_reference(forced, given.runtimes),
        withheld=tuple(withheld),
    )


@dataclass(frozen=True)
class _Given:
    """What decides on the space."""

    spec: StudySpec
    intake: IntakeSummary
    runtimes: Mapping[str, Runtime]

    @property
    def model(self) -> ModelSummary:
        return self.intake.model


def _unique(values: Sequence[T], order: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(v for v in order if v in values)


def _offer(
    values: Sequence[T],
    why_not: Callable[[T], str],
    name: Callable[[T], str],
    withheld: list[Withheld],
) -> tuple[T, ...]:
    """Values without a reason against them; the others are noted with theirs."""
    offered: list[T] = []
    for value in dict.fromkeys(values):
        reason = why_not(value)
        if reason:
            withheld.append(Withheld(name(value), reason))
        else:
            offered.append(value)
    return tuple(offered)


# --- quantization -----------------------------------------------------------------------------------------


def _why_no_scheme(scheme: Scheme, given: _Given) -> str:
    for device, runtime in sorted(given.runtimes.items()):
        if scheme not in RUNNABLE[runtime]:
            what = "the untouched model" if scheme is Scheme.NONE else f"{scheme.value} models"
            note = "; it is still measured as the baseline elsewhere" if scheme is Scheme.NONE else ""
            return f"device {device} (runtime {runtime.value}) cannot run {what}{note}"
    if scheme is Scheme.NONE:
        return ""
    if not given.model.layers:
        return "the model has no operator with weights"
    if scheme in STATIC_SCHEMES and Split.CALIBRATION not in given.intake.data:
        return "static quantization learns the range of activations from dataset.calibration, which is absent"
    if scheme is Scheme.INT4 and not given.model.int4:
        found = ", ".join(given.model.operators)
        return f"int4 weights are for CONV_2D and FULLY_CONNECTED of some size; this model has only {found}"
    return ""


def _trainings(
    given: _Given, schemes: Sequence[Scheme], withheld: list[Withheld]
) -> tuple[QuantizationTraining, ...]:
    def why_not(training: QuantizationTraining) -> str:
        if training is QuantizationTraining.NONE:
            return ""
        if not INTEGER_SCHEMES & set(schemes):
            return "it trains integer weights, and no integer scheme is left"
        return _why_no_training(given)

    order = _unique(given.spec.space.quantization.training, tuple(QuantizationTraining))
    offered = _offer(order, why_not, lambda t: f"quantization.{t.value}", withheld)
    return offered or (QuantizationTraining.NONE,)


def _algorithms(given: _Given, schemes: Sequence[Scheme], withheld: list[Withheld]) -> tuple[Algorithm, ...]:
    def why_not(algorithm: Algorithm) -> str:
        if algorithm is Algorithm.MIN_MAX:
            return ""
        if not INTEGER_SCHEMES & set(schemes):
            return "it chooses integers, and no integer scheme is left"
        return _why_no_algorithm(algorithm, given)

    order = _unique(given.spec.space.quantization.algorithms, tuple(Algorithm))
    offered = _offer(order, why_not, lambda a: f"quantization.{a.value}", withheld)
    return offered or (Algorithm.MIN_MAX,)


def _why_no_algorithm(algorithm: Algorithm, given: _Given) -> str:
    if algorithm is Algorithm.GPTQ and Split.CALIBRATION not in given.intake.data:
        return "it rounds weights by what the layers make of dataset.calibration, which is absent"
    if algorithm in REACHED and not REACHED[algorithm] & set(given.model.operators):
        *others, last = sorted(REACHED[algorithm])
        found = ", ".join(given.model.operators)
        return f"it is for {', '.join(others)} and {last}; this model has only {found}"
    return ""


def _calibration_samples(
    given: _Given, schemes: Sequence[Scheme], withheld: list[Withheld]
) -> tuple[int, ...]:
    calibration = given.intake.data.get(Split.CALIBRATION)
    asked = given.spec.space.quantization.calibration_samples

    def why_not(samples: int) -> str:
        if not samples:
            return ""
        if not STATIC_SCHEMES & set(schemes) or calibration is None:
            return "it is for static quantization, and no static scheme is left"
        if samples > calibration.samples:
            return f"dataset.calibration has {calibration.samples:,} samples"
        if 0 in asked and samples == min(calibration.samples, MOST_CALIBRATED):
            return f"0 takes as many: dataset.calibration has {calibration.samples:,} samples"
        return ""

    order = sorted(asked, key=lambda n: n or math.inf)
    offered = _offer(order, why_not, lambda n: f"quantization.calibrationSamples.{n}", withheld)
    return offered or (0,)


def _bias_corrections(given: _Given, schemes: Sequence[Scheme], withheld: list[Withheld]) -> tuple[bool, ...]:
    def why_not(corrected: bool) -> str:
        if not corrected:
            return ""
        if not INTEGER_SCHEMES & set(schemes):
            return "it takes up what integer weights err, and no integer scheme is left"
        if Split.CALIBRATION not in given.intake.data:
            return "it measures errors on dataset.calibration, which is absent"
        return ""

    order = _unique(given.spec.space.quantization.bias_correction, (False, True))
    return _offer(order, why_not, lambda _: "quantization.biasCorrection", withheld) or (False,)


def _why_not_with_layers(scheme: Scheme, forced: tuple[LayerSettings, ...]) -> str:
    """Why a scheme for the whole model does not go with the overrides."""
    for i, layer in enumerate(forced):
        clustered = layer.clustering is not None and layer.clustering.stage is ClusteringStage.INT8
        if clustered and layer.quantization is None and scheme not in INTEGER_SCHEMES:
            return f"space.layers[{i}] clusters integer weights, and {scheme.value} leaves none"
    return ""


def _fallback(given: _Given) -> Scheme:
    """When nothing that the manifest lists is possible: the float model, else what the devices can run."""
    reasons = {s: _why_no_scheme(s, given) for s in BY_BITS}
    for scheme, reason in reasons.items():
        if not reason:
            return scheme
    raise SpaceError(f"spec.devices: no scheme is left: int8: {reasons[Scheme.INT8]}")


def _reference(forced: tuple[LayerSettings, ...], runtimes: Mapping[str, Runtime]) -> Settings | None:
    """Plain int8, where a device cannot run the float baseline."""
    if all(Scheme.NONE in RUNNABLE[runtime] for runtime in runtimes.values()):
        return None
    return Settings(quantization=Quantization(scheme=Scheme.INT8), layers=forced)


# --- training ---------------------------------------------------------------------------------------------


def _why_no_training(given: _Given) -> str:
    if given.spec.dataset.train is None:
        return "it needs fine-tuning, and dataset.train is absent"
    if given.model.untrainable:
        operators = ", ".join(given.model.untrainable)
        return f"it needs fine-tuning, and no gradient passes through {operators}"
    if given.intake.training is None or Split.TRAIN not in given.intake.data:
        return "it needs fine-tuning, and intake found nothing to train with"
    return ""


def _why_invisible(given: _Given, what: str) -> str:
    """Zeros and repeated weights shorten what is entropy-coded: the download, an NPU's weight stream."""
    for objective in given.spec.objectives:
        if objective.metric == DOWNLOAD_SIZE:
            return ""
        if objective.metric in DEVICE_METRICS:
            devices = [objective.device] if objective.device else list(given.runtimes)
            if any(given.runtimes.get(d) is Runtime.ETHOS_U for d in devices):
                return ""
    return f"{what} makes only the coded file smaller, and no objective is downloadSize"


# --- sparsity ---------------------------------------------------------------------------------------------


def _patterns(
    given: _Given,
    schemes: Sequence[Scheme],
    encodings: Sequence[SparsityEncoding],
    forced: tuple[LayerSettings, ...],
    withheld: list[Withheld],
) -> tuple[tuple[SparsityPattern, ...], bool]:
    """The patterns, and whether those with zeros are for integer schemes too."""
    asked = _asked(given.spec.space.sparsity.patterns, SparsitySpace().patterns)
    unseen = "" if asked else _why_invisible(given, "sparsity")
    shrinks = SparsityEncoding.SPARSE in encodings

    def why_not(pattern: SparsityPattern) -> str:
        if reason := _why_no_pattern(pattern, given, forced):
            return reason
        return "" if shrinks or pattern not in PATTERNS_WITH_ZEROS else unseen

    order = _unique(given.spec.space.sparsity.patterns, tuple(SparsityPattern))
    offered = _offer(order, why_not, lambda p: f"sparsity.{p.value}", withheld)
    zeros = [p for p in offered if p in PATTERNS_WITH_ZEROS]
    integers = ", ".join(s.value for s in schemes if s in INTEGER_SCHEMES)
    if not (unseen and zeros and integers):
        return offered or (SparsityPattern.NONE,), True
    for pattern in zeros:
        why = f"with {integers}, whose integers are always stored densely: {unseen}"
        withheld.append(Withheld(f"sparsity.{pattern.value}", why))
    return offered, False


def _why_no_pattern(pattern: SparsityPattern, given: _Given, forced: tuple[LayerSettings, ...]) -> str:
    """Why a pattern is not possible, whoever may see it."""
    if pattern is SparsityPattern.NONE:
        return ""
    if not given.model.prunable:
        return "no layer of this model can be pruned"
    fours = (SparsityPattern.TWO_OF_FOUR, SparsityPattern.BLOCK)
    if pattern in fours and not given.model.two_of_four:
        return "no layer that can be pruned has input channels in multiples of four"
    highest = given.spec.space.sparsity.max
    if pattern in LEVELED_PATTERNS and not _levels(highest):
        return f"space.sparsity.max is {highest:g}"
    if _by_tfmot(given) and (reason := tfmot.why_no_pattern(pattern, forced)):
        return reason
    # Pruning without fine-tuning costs more accuracy than it is worth, so it is not offered at all.
    return _why_no_training(given)


def _encodings(
    given: _Given,
    schemes: Sequence[Scheme],
    forced: tuple[LayerSettings, ...],
    withheld: list[Withheld],
) -> tuple[SparsityEncoding, ...]:
    def why_not(encoding: SparsityEncoding) -> str:
        if encoding is SparsityEncoding.DENSE:
            return ""
        for device, runtime in sorted(given.runtimes.items()):
            if runtime not in SPARSE_RUNTIMES:
                return f"device {device} (runtime {runtime.value}) reads dense files only"
        if not set(schemes) - INTEGER_SCHEMES:
            return "it holds float weights, and neither none nor float16 is left among the schemes"
        for i, layer in enumerate(forced):
            if layer.quantization is not None and layer.quantization.scheme in INTEGER_SCHEMES:
                return f"it holds float weights only, and space.layers[{i}] makes integers"
        listed = PATTERNS_WITH_ZEROS & set(given.spec.space.sparsity.patterns)
        patterns = frozenset(p for p in listed if not _why_no_pattern(p, given, forced))
        return _why_too_few_zeros(patterns, given.spec.space.sparsity.max)

    order = _unique(given.spec.space.sparsity.encodings, tuple(SparsityEncoding))
    offered = _offer(order, why_not, lambda e: f"sparsity.encoding.{e.value}", withheld)
    return offered or (SparsityEncoding.DENSE,)


def _why_too_few_zeros(patterns: frozenset[SparsityPattern], highest: float) -> str:
    if not patterns:
        return "it leaves out zeros, and no pattern with zeros is left"
    if patterns <= LEVELED_PATTERNS and highest < LEAST_ENCODED:
        return f"space.sparsity.max is {highest:g}, and below {LEAST_ENCODED:g} files may grow by it"
    return ""


def _by_tfmot(given: _Given) -> bool:
    training = given.intake.training
    return training is not None and training.trainer is TrainerKind.TFMOT


def _asked(values: Sequence[T], default: Sequence[T]) -> bool:
    """The manifest chose: it lists something else than everything."""
    return set(values) != set(default)


def _levels(highest: float) -> tuple[float, ...]:
    """Shares of zeros in steps of 5%, up to the manifest's bound."""
    top = int(highest * 100 + 1e-6)
    steps = tuple(
        percent / 100 for percent in range(LOWEST_LEVEL_PERCENT, top + 1, LEVEL_STEP_PERCENT) if percent < 100
    )
    return steps or ((round(highest, 6),) if highest > 0 else ())


# --- clustering -------------------------------------------------------------------------------------------


def _stages(
    given: _Given, schemes: Sequence[Scheme], withheld: list[Withheld]
) -> tuple[ClusteringStage, ...]:
    spec = given.spec
    asked = _asked(spec.space.clustering.stages, tuple(ClusteringStage))

    def why_not(stage: ClusteringStage) -> str:
        if stage is ClusteringStage.NONE:
            return ""
        if not given.model.clusterable:
            return "no layer of this model can be clustered"
        if stage is ClusteringStage.TRAINING and _why_no_training(given):
            return _why_no_training(given)
        if stage is ClusteringStage.INT8 and not INTEGER_SCHEMES & set(schemes):
            return "it works on integer weights, and no integer scheme is left"
        return "" if asked else _why_invisible(given, "clustering")

    order = _unique(spec.space.clustering.stages, tuple(ClusteringStage))
    offered = _offer(order, why_not, lambda s: f"clustering.{s.value}", withheld)
    return offered or (ClusteringStage.NONE,)


def _cluster_steps(given: _Given) -> tuple[int, ...]:
    """Numbers of clusters, descending, about a factor of 1.4 apart; the manifest's ends are among them."""
    bounds = given.spec.space.clustering.clusters
    low, high = bounds.min, bounds.max
    return tuple(sorted({low, high, *(c for c in CLUSTER_STEPS if low <= c <= high)}, reverse=True))


def _clusters_beside_zeros(
    given: _Given,
    patterns: Sequence[SparsityPattern],
    stages: Sequence[ClusteringStage],
    forced: tuple[LayerSettings, ...],
    withheld: list[Withheld],
) -> int:
    """Fewest clusters that the trainer makes in a layer with zeros; 0: as few as elsewhere."""
    if not _by_tfmot(given) or ClusteringStage.TRAINING not in stages:
        return 0
    if PATTERNS_WITH_ZEROS & set(patterns) or zeros_of_their_own(forced):
        fewest = given.spec.space.clustering.clusters.min
        if fewest < TFMOT_CLUSTERS_BESIDE_ZEROS:
            withheld.append(Withheld(f"clustering.clusters.{fewest}", tfmot.why_no_two_clusters()))
    return TFMOT_CLUSTERS_BESIDE_ZEROS


# --- allocation ------------------------------------------------------------------------------------------


def _allocations(
    given: _Given,
    schemes: Sequence[Scheme],
    patterns: Sequence[SparsityPattern],
    stages: Sequence[ClusteringStage],
    withheld: list[Withheld],
) -> tuple[Allocation, ...]:
    def why_not(allocation: Allocation) -> str:
        if allocation is Allocation.UNIFORM:
            return ""
        if Split.CALIBRATION not in given.intake.data:
            return "the probe of the layers runs on dataset.calibration, which is absent"
        if (found := given.model.prunable_layers) < FEWEST_LAYERS:
            return (
                f"of {FEWEST_LAYERS} layers that are large enough to be treated apart this model has {found}"
            )
        divisible = DIVISIBLE_PATTERNS & set(patterns) or set(stages) - {ClusteringStage.NONE}
        if not divisible and Scheme.INT4 not in schemes:
            return (
                "neither levels of sparsity nor clusters nor int4 are left, which it divides among the layers"
            )
        return ""

    order = _unique(given.spec.space.allocation, tuple(Allocation))
    return _offer(order, why_not, lambda a: f"allocation.{a.value}", withheld) or (Allocation.UNIFORM,)


# --- rate ------------------------------------------------------------------------------------------------


def _rated(
    given: _Given,
    schemes: Sequence[Scheme],
    forced: tuple[LayerSettings, ...],
    withheld: list[Withheld],
) -> tuple[bool, ...]:
    spec = given.spec
    asked = _asked(spec.space.rate.stages, tuple(RateStage))

    def why_not(stage: RateStage) -> str:
        if stage is RateStage.NONE:
            return ""
        if reason := _why_no_training(given):
            return reason
        if not INTEGER_SCHEMES & set(schemes):
            return "it trains integer weights, and no integer scheme is left"
        if Granularity.TENSOR not in spec.space.quantization.granularity:
            return "its weights have one scale per tensor, and space.quantization.granularity has no tensor"
        for i, layer in enumerate(forced):
            if layer.sparsity is not None or layer.clustering is not None:
                return f"it chooses zeros and levels by itself, and space.layers[{i}] fixes some"
        return "" if asked else _why_invisible(given, "rate-aware training")

    order = _unique(spec.space.rate.stages, tuple(RateStage))
    offered = _offer(order, why_not, lambda s: f"rate.{s.value}", withheld) or (RateStage.NONE,)
    return tuple(stage is RateStage.TRAINING for stage in offered)


def _ratios(spec: StudySpec) -> tuple[float, ...]:
    """Budgets, descending, by a factor of 1.19 or less; the manifest's ends are among them."""
    low, high = spec.space.rate.ratio.min, spec.space.rate.ratio.max
    steps = max(FEWEST_RATIOS, round(math.log(high / low, RATIO_STEP))) if high > low else 0
    between = (high * (low / high) ** (k / steps) for k in range(1, steps))
    return tuple(dict.fromkeys((high, *(float(f"{ratio:.3g}") for ratio in between), low)))


# --- overrides --------------------------------------------------------------------------------------------


def _check_layers(forced: tuple[LayerSettings, ...], given: _Given) -> None:
    training = _why_no_training(given)
    for i, layer in enumerate(forced):
        path = f"spec.space.layers[{i}]"
        if layer.quantization is not None:
            reason = _why_no_scheme(layer.quantization.scheme, given)
            if reason:
                raise SpaceError(f"{path}.quantization.scheme: {layer.quantization.scheme.value}: {reason}")
            if layer.quantization.training is QuantizationTraining.AWARE and training:
                raise SpaceError(f"{path}.quantization.training: aware: {training}")
            algorithm = layer.quantization.algorithm
            if reason := _why_no_algorithm(algorithm, given):
                raise SpaceError(f"{path}.quantization.algorithm: {algorithm.value}: {reason}")
        if layer.sparsity is not None and layer.sparsity.pattern is not SparsityPattern.NONE and training:
            raise SpaceError(f"{path}.sparsity.pattern: {layer.sparsity.pattern.value}: {training}")
        by_tfmot = _by_tfmot(given)
        pattern = layer.sparsity.pattern if layer.sparsity is not None else SparsityPattern.NONE
        if by_tfmot and (reason := tfmot.why_no_pattern(pattern)):
            raise SpaceError(f"{path}.sparsity.pattern: {pattern.value}: {reason}")
        if layer.clustering is None:
            continue
        if by_tfmot and (reason := tfmot.why_no_clusters(layer)):
            raise SpaceError(f"{path}.clustering.clusters: {layer.clustering.clusters}: {reason}")
        if layer.clustering.stage is ClusteringStage.TRAINING and training:
            raise SpaceError(f"{path}.clustering.stage: training: {training}")
        floats = layer.quantization is not None and layer.quantization.scheme not in INTEGER_SCHEMES
        if layer.clustering.stage is ClusteringStage.INT8 and floats:
            raise SpaceError(
                f"{path}.clustering.stage: int8 works on integer weights; quantization.scheme is "
                f"{layer.quantization.scheme.value if layer.quantization else ''}, expected dynamic, int8, "
                "int16x8 or int4"
            )
