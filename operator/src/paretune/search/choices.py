"""A search space: settings as a walk through ordered choices."""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from paretune_contract.settings import (
    DIVISIBLE_PATTERNS,
    INTEGER_SCHEMES,
    LEVELED_PATTERNS,
    PATTERNS_WITH_ZEROS,
    STATIC_SCHEMES,
    Algorithm,
    Allocation,
    Clustering,
    ClusteringStage,
    Granularity,
    InputOutput,
    LayerSettings,
    LevelOf,
    Quantization,
    QuantizationTraining,
    Rate,
    Scheme,
    Settings,
    Sparsity,
    SparsityEncoding,
    SparsityPattern,
)

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import IntDistribution

T = TypeVar("T")
Choose = Callable[[str, Sequence[Any]], Any]
"""Picks one of the options of a parameter."""

COUNTABLE = 10**6
INT4_LEVELS = 16
LEAST_ENCODED = 0.5
"""Share of zeros from which float32 weights are smaller in a sparse file; above it, float16 ones are, too."""

BASELINE = Settings()
"""The untouched model."""


@dataclass(frozen=True)
class Withheld:
    """A part of the space that is not searched.

    Args:
        what: the value or part, as in the manifest: `int8`, `clustering.training`, `sparsity`.
        why: a sentence for people.
    """

    what: str
    why: str


@dataclass(frozen=True)
class SearchSpace:
    """What is left to search, each parameter as an ordered list of options.

    Every parameter is an index into its options (an ordered integer): with categoricals in their place the
    sampler does not know that 16 clusters lie between 12 and 24, and finds less. Parameters without a choice
    are not parameters. Whether one exists may depend on others: `level` only for patterns that have one.

    Args:
        schemes: in the order of decreasing bits.
        granularities: scopes of weight scales, for integer schemes.
        trainings: whether weights are fine-tuned as integers, for integer schemes.
        ios: types of inputs and outputs, for static schemes.
        algorithms: how weights become integers, for integer schemes whose integers are not trained.
        calibration_samples: ascending numbers of samples for static schemes, 0 (all of them) the last.
        bias_corrections: whether biases take up mean errors, for integer schemes whose integers are not
            trained.
        patterns: sparsity patterns.
        integer_zeros: whether patterns with zeros are for integer schemes too, whose files are always dense.
        levels: ascending shares of zeros or of channels, for patterns that have a level.
        level_of: what the level of pattern channel is a share of.
        encodings: how the file holds zeros, for float schemes and patterns that leave half of zeros (float16:
            more than half).
        stages: clustering stages.
        clusters: descending numbers of distinct weights.
        clusters_beside_zeros: fewest that training makes where a layer has zeros.
        allocations: how levels, clusters and 4-bit weights are divided among the layers.
        bits: descending mean bits of a weight, for int4 that is allocated by sensitivity.
        rated: whether weights are trained for a number of bytes, for integer schemes.
        ratios: descending budgets of coded bytes, as shares of the weights' bytes in float32.
        layers: overrides that go with all settings but the baseline.
        reference: plain int8 where a device cannot run the untouched model, which then belongs to the
            space whatever the manifest leaves out.
        withheld: what is not searched, and why.
    """

    schemes: tuple[Scheme, ...] = (Scheme.NONE,)
    granularities: tuple[Granularity, ...] = (Granularity.CHANNEL,)
    trainings: tuple[QuantizationTraining, ...] = (QuantizationTraining.NONE,)
    ios: tuple[InputOutput, ...] = (InputOutput.FLOAT32,)
    algorithms: tuple[Algorithm, ...] = (Algorithm.MIN_MAX,)
    calibration_samples: tuple[int, ...] = (0,)
    bias_corrections: tuple[bool, ...] = (False,)
    patterns: tuple[SparsityPattern, ...] = (SparsityPattern.NONE,)
    integer_zeros: bool = True
    levels: tuple[float, ...] = ()
    level_of: LevelOf = LevelOf.CHANNELS
    encodings: tuple[SparsityEncoding, ...] = (SparsityEncoding.DENSE,)
    stages: tuple[ClusteringStage, ...] = (ClusteringStage.NONE,)
    clusters: tuple[int, ...] = ()
    clusters_beside_zeros: int = 0
    allocations: tuple[Allocation, ...] = (Allocation.UNIFORM,)
    bits: tuple[float, ...] = ()
    rated: tuple[bool, ...] = (False,)
    ratios: tuple[float, ...] = ()
    layers: tuple[LayerSettings, ...] = ()
    reference: Settings | None = None
    withheld: tuple[Withheld, ...] = ()

    def ask(self, trial: "optuna.Trial") -> Settings:
        """Let a trial of Optuna choose."""

        def choose(name: str, options: Sequence[T]) -> T:
            return options[trial.suggest_int(name, 0, len(options) - 1)]

        return self._chosen(choose)

    @cached_property
    def distributions(self) -> dict[str, "IntDistribution"]:
        """Every parameter that some settings have."""
        from optuna.distributions import IntDistribution

        return {name: IntDistribution(0, len(options) - 1) for name, options in self._parameters.items()}

    def params_of(self, settings: Settings) -> dict[str, int]:
        """Parameters that lead to these settings, the inverse of `ask`; none outside the space."""
        known = self._known_params  # each ask wants them of all records
        if settings not in known:
            known[settings] = self._inverse(settings) or {}
        return dict(known[settings])

    @cached_property
    def _known_params(self) -> dict[Settings, dict[str, int]]:
        return {}

    def contains(self, settings: Settings) -> bool:
        """These settings are the baseline, the reference, or can be suggested."""
        return settings in (BASELINE, self.reference) or self._inverse(settings) is not None

    def _inverse(self, settings: Settings) -> dict[str, int] | None:
        values = _values(settings)
        params: dict[str, int] = {}

        def choose(name: str, options: Sequence[T]) -> T:
            params[name] = options.index(values[name.partition("/")[0]])
            return options[params[name]]

        try:
            return params if self._chosen(choose) == settings else None
        except ValueError:  # an option that is not offered
            return None

    @cached_property
    def size(self) -> int | None:
        """Number of distinct settings, the baseline (and reference) included; None above a million."""
        suggested = sum(1 for _ in islice(self._cells(), COUNTABLE + 1))
        if suggested > COUNTABLE:
            return None
        extra = {s.digest(): s for s in (BASELINE, self.reference) if s is not None}
        return suggested + sum(self._inverse(s) is None for s in extra.values())

    def cells(self) -> Iterator[Settings]:
        """All settings that can be suggested, in a fixed order."""
        return (self._chosen(_following(path)) for path in self._cells())

    def around(self, settings: Settings, order: int) -> Iterator[Settings]:
        """All settings that can be suggested, the ones with the fewest steps away from given ones first.

        A step moves one parameter to a neighboring option; a parameter that comes into being with it begins
        at its first option, and those that have meaning in both keep their value.

        Args:
            settings: where to begin; must be in the space.
            order: seed of the order among neighbors.
        """
        chance = random.Random(order)  # noqa: S311 (repeatable, not secret)
        found = {settings}
        waiting = deque([settings])
        while waiting:
            here = waiting.popleft()
            yield here
            neighbors = [n for n in dict.fromkeys(self._neighbors(here)) if n not in found]
            chance.shuffle(neighbors)
            found.update(neighbors)
            waiting.extend(neighbors)

    def _neighbors(self, settings: Settings) -> Iterator[Settings]:
        values = _values(settings)
        for name, index in self.params_of(settings).items():
            for step in (-1, 1):
                options = self._parameters[name]
                if 0 <= index + step < len(options):
                    yield self._chosen(_keeping({**values, name.partition("/")[0]: options[index + step]}))

    @cached_property
    def _parameters(self) -> dict[str, Sequence[Any]]:
        found: dict[str, Sequence[Any]] = {}

        def noting(inner: Choose) -> Choose:
            def choose(name: str, options: Sequence[Any]) -> Any:
                found[name] = options
                return inner(name, options)

            return choose

        for path in islice(self._cells(), COUNTABLE):
            self._choices(noting(_following(path)))
        return dict(sorted(found.items()))

    def _cells(self) -> Iterator[tuple[int, ...]]:
        """Indexes of all combinations of choices, depth first."""
        path: list[int] = []
        while True:
            counts: list[int] = []
            self._choices(_counting(path, counts))
            path += [0] * (len(counts) - len(path))
            yield tuple(path)
            while path and path[-1] + 1 >= counts[len(path) - 1]:
                path.pop()
            if not path:
                return
            path[-1] += 1

    def _chosen(self, choose: Choose) -> Settings:
        return Settings(**self._choices(choose), layers=self.layers)

    def _choices(self, choose: Choose) -> dict[str, Any]:
        """The space as a walk through its choices; everything else here is this walk with another chooser.

        A parameter's name always goes with the same options, as Optuna wants it: where the options depend
        on the scheme, so does the name.
        """

        def pick(name: str, options: Sequence[T]) -> T:
            result: T = options[0] if len(options) == 1 else choose(name, options)
            return result

        scheme = pick("scheme", self.schemes)
        quantization: dict[str, Any] = {"scheme": scheme}
        if scheme in INTEGER_SCHEMES and pick("rated", self.rated):
            rate = Rate(ratio=pick("ratio", self.ratios))
            whole = tuple(p for p in self.patterns if p in (SparsityPattern.NONE, SparsityPattern.CHANNEL))
            narrowed: dict[str, Any] = {"pattern": pick("sparsity/rated", whole or (SparsityPattern.NONE,))}
            if narrowed["pattern"] in LEVELED_PATTERNS:
                narrowed |= {"level": pick("level", self.levels), "level_of": self.level_of}
            quantization["granularity"] = Granularity.TENSOR
            if scheme in STATIC_SCHEMES:
                quantization["io"] = pick("io", self.ios)
                quantization["calibration_samples"] = pick("calibrationSamples", self.calibration_samples)
            return {
                "quantization": Quantization(**quantization),
                "sparsity": Sparsity(**narrowed),
                "rate": rate,
            }
        if scheme in INTEGER_SCHEMES:
            quantization["training"] = pick("training", self.trainings)
        sparsity: dict[str, Any] = {"pattern": pick(*self._patterns(scheme))}
        if sparsity["pattern"] in LEVELED_PATTERNS:
            sparsity["level"] = pick("level", self.levels)
        sparsity["encoding"] = pick("encoding", self.encodings_of(scheme, **sparsity))
        sparsity["level_of"] = self.level_of

        clustering: dict[str, Any] = {"stage": pick(*self._stages(scheme, sparsity["pattern"]))}
        if clustering["stage"] is not ClusteringStage.NONE:
            named = self._clusters(scheme, sparsity["pattern"], clustering["stage"])
            clustering["clusters"] = pick(*named)

        divides = sparsity["pattern"] in DIVISIBLE_PATTERNS or "clusters" in clustering
        allocation = pick("allocation", self._allocations(scheme, divides))
        if scheme is Scheme.INT4 and allocation is Allocation.SENSITIVITY and self.bits:
            # By itself int4 in all layers is what a uniform allocation gives.
            mixes = (*self.bits, 0.0) if divides else self.bits
            quantization["bits"] = pick("bits/beside" if divides else "bits", mixes)

        if scheme in INTEGER_SCHEMES:
            if clustering["stage"] is ClusteringStage.TRAINING:
                quantization["granularity"] = Granularity.TENSOR
            else:
                quantization["granularity"] = pick("granularity", self.granularities)
            if quantization["training"] is QuantizationTraining.NONE:
                name, algorithms = self.algorithms_with(clustering["stage"])
                quantization["algorithm"] = pick(name, algorithms)
                quantization["bias_correction"] = pick("biasCorrection", self.bias_corrections)
        if scheme in STATIC_SCHEMES:
            quantization["io"] = pick("io", self.ios)
            quantization["calibration_samples"] = pick("calibrationSamples", self.calibration_samples)
        return {
            "quantization": Quantization(**quantization),
            "sparsity": Sparsity(**sparsity),
            "clustering": Clustering(**clustering),
            "allocation": allocation,
        }

    def _patterns(self, scheme: Scheme) -> tuple[str, tuple[SparsityPattern, ...]]:
        """Parameter and options of the pattern: no zeros that nobody sees with this scheme."""
        if self.integer_zeros or scheme not in INTEGER_SCHEMES:
            return "sparsity", self.patterns
        kept = tuple(p for p in self.patterns if p not in PATTERNS_WITH_ZEROS)
        return "sparsity/integer", kept or (SparsityPattern.NONE,)

    def encodings_of(
        self, scheme: Scheme, pattern: SparsityPattern, level: float = 0.0
    ) -> tuple[SparsityEncoding, ...]:
        """Encodings that differ: integers are always dense, and so is what would take more bytes."""
        zeros = LEAST_ENCODED if pattern is SparsityPattern.TWO_OF_FOUR else level
        enough = zeros > LEAST_ENCODED or (zeros == LEAST_ENCODED and scheme is Scheme.NONE)
        if scheme in INTEGER_SCHEMES or pattern not in PATTERNS_WITH_ZEROS or not enough:
            return (SparsityEncoding.DENSE,)
        return self.encodings

    def _allocations(self, scheme: Scheme, divides: bool) -> tuple[Allocation, ...]:
        """Allocations that differ: where there is nothing to divide, all are the same."""
        mixes = scheme is Scheme.INT4 and len(self.bits) > 0
        return self.allocations if divides or mixes else (Allocation.UNIFORM,)

    def algorithms_with(self, stage: ClusteringStage) -> tuple[str, tuple[Algorithm, ...]]:
        """Parameter and options of the algorithm; gptq would tear apart what training drew together."""
        if stage is not ClusteringStage.TRAINING or Algorithm.GPTQ not in self.algorithms:
            return "algorithm", self.algorithms
        kept = tuple(a for a in self.algorithms if a is not Algorithm.GPTQ)
        return "algorithm/clustered", kept or (Algorithm.MIN_MAX,)

    def _stages(self, scheme: Scheme, pattern: SparsityPattern) -> tuple[str, tuple[ClusteringStage, ...]]:
        """Parameter and options of the stage: those that have an effect, and are possible."""
        without = set()
        if scheme not in INTEGER_SCHEMES:
            without.add(ClusteringStage.INT8)
        elif Granularity.TENSOR not in self.granularities:
            # One scale per channel turns k distinct weights into up to k for each channel.
            without.add(ClusteringStage.TRAINING)
        clusters = self._effective(scheme)
        stages = tuple(s for s in self.stages if s not in without) if clusters else ()
        name = f"clustering/{_domain(scheme)}"
        if ClusteringStage.TRAINING in stages and not self._trained(clusters, pattern):
            name += "/sparse"
            stages = tuple(s for s in stages if s is not ClusteringStage.TRAINING)
        return name, stages or (ClusteringStage.NONE,)

    def _clusters(
        self, scheme: Scheme, pattern: SparsityPattern, stage: ClusteringStage
    ) -> tuple[str, tuple[int, ...]]:
        """Parameter and options of the number of clusters: those that have an effect, and are possible."""
        name, clusters = "clusters/int4" if scheme is Scheme.INT4 else "clusters", self._effective(scheme)
        made = self._trained(clusters, pattern) if stage is ClusteringStage.TRAINING else clusters
        return name if made == clusters else f"{name}/sparse", made

    def _effective(self, scheme: Scheme) -> tuple[int, ...]:
        """Numbers of clusters that have an effect with this scheme."""
        if scheme is Scheme.INT4:
            return tuple(c for c in self.clusters if c < INT4_LEVELS)
        return self.clusters

    def _trained(self, clusters: tuple[int, ...], pattern: SparsityPattern) -> tuple[int, ...]:
        """Of these numbers of clusters the ones that training makes beside a pattern."""
        if not self.clusters_beside_zeros or not self._leaves_zeros(pattern):
            return clusters
        return tuple(c for c in clusters if c >= self.clusters_beside_zeros)

    def _leaves_zeros(self, pattern: SparsityPattern) -> bool:
        """Whether some layer that is clustered like the others has zeros."""
        return pattern in PATTERNS_WITH_ZEROS or zeros_of_their_own(self.layers)


def zeros_of_their_own(layers: Sequence[LayerSettings]) -> bool:
    """Whether an entry of `layers` asks for zeros where clusters are those of the whole model."""
    return any(
        layer.sparsity is not None
        and layer.sparsity.pattern in PATTERNS_WITH_ZEROS
        and layer.clustering is None
        for layer in layers
    )


def _values(settings: Settings) -> dict[str, Any]:
    """The chosen option of each parameter, by the first part of its name."""
    return {
        "scheme": settings.quantization.scheme,
        "granularity": settings.quantization.granularity,
        "training": settings.quantization.training,
        "io": settings.quantization.io,
        "algorithm": settings.quantization.algorithm,
        "calibrationSamples": settings.quantization.calibration_samples,
        "biasCorrection": settings.quantization.bias_correction,
        "sparsity": settings.sparsity.pattern,
        "level": settings.sparsity.level,
        "encoding": settings.sparsity.encoding,
        "clustering": settings.clustering.stage,
        "clusters": settings.clustering.clusters,
        "allocation": settings.allocation,
        "bits": settings.quantization.bits,
        "rated": settings.rate.ratio > 0,
        "ratio": settings.rate.ratio,
    }


def _keeping(values: Mapping[str, Any]) -> Choose:
    """Choose the given value where it is an option, else the first."""

    def choose(name: str, options: Sequence[Any]) -> Any:
        value = values[name.partition("/")[0]]
        return value if value in options else options[0]

    return choose


def _domain(scheme: Scheme) -> str:
    if scheme is Scheme.INT4:
        return "int4"
    return "integer" if scheme in INTEGER_SCHEMES else "float"


def _following(path: Sequence[int]) -> Choose:
    steps = iter(path)
    return lambda _name, options: options[next(steps)]


def _counting(path: Sequence[int], counts: list[int]) -> Choose:
    """Follow a path and then the first options, and note how many there are at each step."""

    def choose(_name: str, options: Sequence[Any]) -> Any:
        depth = len(counts)
        counts.append(len(options))
        return options[path[depth] if depth < len(path) else 0]

    return choose
