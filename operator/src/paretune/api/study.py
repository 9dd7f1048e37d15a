"""OptimizationStudy: what a user applies."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from paretune_contract.base import Document, Line, Sentence, TolerantDocument
from paretune_contract.dataset import Uri
from paretune_contract.quantity import DURATION_PATTERN, SIZE_PATTERN, seconds
from paretune_contract.settings import (
    INTEGER_SCHEMES,
    STATIC_SCHEMES,
    Algorithm,
    Allocation,
    ClusteringStage,
    Granularity,
    InputOutput,
    LayerSettings,
    LevelOf,
    QuantizationTraining,
    Scheme,
    SparsityEncoding,
    SparsityPattern,
)
from paretune_contract.summary import Digest, IntakeSummary
from paretune_contract.training import Training
from pydantic import ConfigDict, Field

from .meta import API_VERSION, CONDITION_LIST, Condition, Metadata, Resources
from .metrics import BUILT_IN, Goal, Metric, Unit, metric_named
from .schema import (
    CRD,
    NO_DEFAULTS,
    RULES,
    Bound,
    Distinct,
    Duration,
    MetricName,
    Name,
    ObjectName,
    PerChannelNumber,
    SecretName,
    Target,
    rule,
    rules,
)

DEFAULT_POOL = "cpu"
"""The device of a study that names none: litert with one thread."""
MUTABLE = frozenset({"budget", "suspend"})
"""What may change in the spec of a study that was accepted."""
ETHOS_TARGET = r"^ethos-u(55-(32|64|128|256)|65-(256|512)|85-(128|256|512|1024|2048))$"
"""Accelerator configurations of the Ethos-U family, as its compiler names them."""

_MODEL_URI = rule(
    "self.matches('^((s3|gs|https|pvc)://[^/@]+/|models:/).+') && !self.matches('/[.][.](/|$)')",
    "expected s3://BUCKET/KEY, gs://, https://, pvc://CLAIM/PATH or models:/; a file works only on one "
    "machine (paretune run)",
)
_DATA_URI = rule(
    "self.matches('^(s3|gs|https|pvc)://[^/@]+/.+') && !self.matches('/[.][.](/|$)')",
    "expected s3://BUCKET/KEY, gs://, https:// or pvc://CLAIM/PATH; a file works only on one machine "
    "(paretune run)",
)
_STORE_URI = rule(
    "self == '' || self.matches('^(s3|gs|pvc)://[^/]+') && !self.matches('/[.][.](/|$)')",
    "expected s3://, gs:// or pvc://, without '..', or nothing for MLflow's artifact store",
)
_TRACKING_URI = rule(
    "self == '' || self.matches('^https?://[^/@]+(/.*)?$')", "expected http:// or https://, without password"
)


class SecretRef(Document):
    """A Secret in the study's namespace."""

    name: SecretName = Field(
        description="Name of the Secret; it begins with `paretune-`, and a study can use no other."
    )


class Model(Document):
    """The trained model to optimize."""

    uri: Uri = Field(
        description="Keras 3 .keras, legacy .h5, SavedModel or float .tflite at an s3, gs, https, pvc or "
        "models:/ URI; on one machine also a path, relative to the manifest.",
        json_schema_extra=rules(_MODEL_URI),
    )
    secret_ref: SecretRef | None = Field(None, description="Credentials for the URI; in a cluster only.")


class DataSource(Document):
    """One part of the data set."""

    uri: Uri = Field(
        description="An .npz, a folder of .npy files or a folder of images by class name, at an s3, gs, "
        "https or pvc URI; on one machine also a path, relative to the manifest.",
        json_schema_extra=rules(_DATA_URI),
    )
    format: Annotated[str, Field(min_length=1, max_length=63)] | None = Field(
        None,
        description="npz, npy, images, or the name of an entry point in `paretune.datasets`; absent: by what "
        "the URI points to.",
    )
    secret_ref: SecretRef | None = Field(None, description="Credentials for the URI; in a cluster only.")


class Dataset(Document):
    """The data, in up to four parts that should share no sample."""

    train: DataSource | None = Field(
        None, description="For fine-tuning; absent: the space has post-training settings only."
    )
    calibration: DataSource | None = Field(
        None, description="A few hundred inputs that set the ranges of static quantization."
    )
    evaluation: DataSource = Field(description="What the search sees of the candidates' quality.")
    test: DataSource | None = Field(
        None, description="The front is measured on it once, at the end; the search never sees it."
    )
    scale: PerChannelNumber = Field(
        1.0,
        description="Model input = float32(x) * scale + offset; a number, or a list with one per channel.",
    )
    offset: PerChannelNumber = Field(
        0.0,
        description="Model input = float32(x) * scale + offset; a number, or a list with one per channel.",
    )


def _metrics_with(**properties: Any) -> str:
    """CEL list of the built-in metrics with these properties."""
    chosen = [m.name for m in BUILT_IN.values() if all(getattr(m, k) == v for k, v in properties.items())]
    return "[" + ", ".join(f"'{name}'" for name in chosen) + "]"


_MAXIMIZED, _MINIMIZED = _metrics_with(goal=Goal.MAXIMIZE), _metrics_with(goal=Goal.MINIMIZE)
_ON_DEVICE = _metrics_with(on_device=True)
_IS_MAXIMIZED = f"(self.metric in {_MAXIMIZED} || (has(self.goal) && self.goal == 'maximize'))"
_IS_MINIMIZED = f"(self.metric in {_MINIMIZED} || (has(self.goal) && self.goal == 'minimize'))"


def _in_unit(metrics: str, pattern: str, form: str) -> dict[str, Any]:
    escaped = pattern.replace("\\", "\\\\")
    return rule(
        f"!has(self.atMost) || !(self.metric in {metrics}) || type(self.atMost) == int || "
        f"string(self.atMost).matches('{escaped}')",
        f"this metric is compared with {form}",
        ".atMost",
    )


class Objective(Document):
    """A metric to optimize, with constraints that a candidate must meet to be feasible."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"self.metric in {_MAXIMIZED} || self.metric in {_MINIMIZED} || has(self.goal)",
                "this metric is not built in, so its goal is needed: minimize or maximize",
                ".goal",
            ),
            rule(
                f"!has(self.goal) || !(self.metric in {_MAXIMIZED} && self.goal == 'minimize' || "
                f"self.metric in {_MINIMIZED} && self.goal == 'maximize')",
                "the metric is built in and its goal is the other one; leave goal out",
                ".goal",
            ),
            rule(
                f"!has(self.device) || self.metric in {_ON_DEVICE}",
                "only latency, latencyRatio and peakMemory are measured on a device; leave device out",
                ".device",
            ),
            rule(
                f"!has(self.atLeast) || {_IS_MAXIMIZED}",
                "atLeast is for metrics that are maximized; use atMost",
                ".atLeast",
            ),
            rule(
                f"!has(self.maxDrop) || {_IS_MAXIMIZED}",
                "maxDrop is for metrics that are maximized; use maxRatio",
                ".maxDrop",
            ),
            rule(
                f"!has(self.atMost) || {_IS_MINIMIZED}",
                "atMost is for metrics that are minimized; use atLeast",
                ".atMost",
            ),
            rule(
                f"!has(self.maxRatio) || {_IS_MINIMIZED} && self.metric != 'latencyRatio'",
                "maxRatio is for metrics that are minimized and no ratio yet; use maxDrop or atMost",
                ".maxRatio",
            ),
            rule(
                f"!has(self.atLeast) || !(self.metric in {_MAXIMIZED}) || "
                "(double(self.atLeast) >= 0.0 && double(self.atLeast) <= 1.0)",
                "this metric lies between 0 and 1, such as 0.97",
                ".atLeast",
            ),
            rule(
                f"!has(self.maxDrop) || !(self.metric in {_MAXIMIZED}) || double(self.maxDrop) <= 1.0",
                "this metric lies between 0 and 1; expected such as 0.01 (one point)",
                ".maxDrop",
            ),
            _in_unit(_metrics_with(unit=Unit.SECONDS), DURATION_PATTERN, "a duration such as 20ms"),
            _in_unit(_metrics_with(unit=Unit.BYTES), SIZE_PATTERN, "a size such as 64KiB"),
        )
    )

    metric: MetricName = Field(
        description="accuracy, rocAuc, agreement, meanSquaredError, modelSize, downloadSize, latency, "
        "latencyRatio, peakMemory, or the name of an entry point in `paretune.metrics`."
    )
    device: Name | None = Field(
        None,
        description="Name of one of `devices`, for latency, latencyRatio and peakMemory; may be left out "
        "where there is exactly one device.",
    )
    goal: Goal | None = Field(
        None, description="minimize or maximize; needed for a metric that is not built in."
    )
    at_least: Annotated[float, Field(ge=-1e12, le=1e12)] | None = Field(
        None, description="Constraint: the metric is at least this number."
    )
    at_most: Bound | None = Field(
        None,
        description="Constraint: the metric is at most this. Whole seconds or bytes, or text such as 20ms, "
        '64KiB or "0.02".',
    )
    max_drop: Annotated[float, Field(ge=0, le=1e12)] | None = Field(
        None,
        description="Constraint: the metric is at most this much below the baseline's (0.01: one point).",
    )
    max_ratio: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="Constraint: the metric is at most this times the baseline's."
    )

    @property
    def definition(self) -> Metric:
        """What is known about the metric.

        Raises:
            ValueError: when it is not built in and the objective gives no goal.
        """
        return metric_named(self.metric, self.goal)


class Runtime(StrEnum):
    """What executes a model on a device."""

    LITERT = "litert"
    EDGETPU = "edgetpu"
    ETHOS_U = "ethos-u"
    TFLM = "tflm"


RUNNABLE: Mapping[Runtime, frozenset[Scheme]] = {
    Runtime.LITERT: frozenset(Scheme),
    Runtime.TFLM: frozenset({Scheme.NONE, Scheme.INT8, Scheme.INT16X8, Scheme.INT4}),
    Runtime.ETHOS_U: frozenset({Scheme.INT8, Scheme.INT16X8}),
    Runtime.EDGETPU: frozenset({Scheme.INT8}),
}
"""What each runtime executes: TFLM has no dynamic-range kernels; the Ethos-U maps int8 and int16 activations
onto the NPU and int4 crashes its compiler; the Edge TPU compiler takes full int8 models only."""

SPARSE_RUNTIMES = frozenset({Runtime.LITERT})
"""Runtimes that execute sparse files: TFLM has no DENSIFY, and compilers for accelerators take integers."""


def target_rules(is_ethos: str) -> tuple[dict[str, Any], ...]:
    """CEL rules for `target` beside a `runtime`."""
    return (
        rule(
            f"!({is_ethos}) || has(self.target) && self.target.matches('{ETHOS_TARGET}')",
            "runtime ethos-u needs a target such as ethos-u55-128, ethos-u65-256 or ethos-u85-512",
            ".target",
        ),
    )


class Device(Document):
    """Something that candidates are measured on: a pool of the cluster, or a runtime named here."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!(has(self.pool) && (has(self.runtime) || has(self.target)))",
                "runtime and target are the pool's; leave them out, or leave pool out",
                ".pool",
            ),
            rule(
                "!has(self.target) || has(self.pool) || "
                "has(self.runtime) && self.runtime in ['ethos-u', 'tflm']",
                "runtimes litert and edgetpu have no targets; leave target out",
                ".target",
            ),
            *target_rules("has(self.runtime) && self.runtime == 'ethos-u'"),
        )
    )

    name: Name = Field(description="How objectives and metrics call it: latency on pi is latency/pi.")
    pool: ObjectName | None = Field(
        None, description="Name of a DevicePool; absent: the device is described here."
    )
    runtime: Runtime | None = Field(None, description="Runtime of a device without pool; absent: litert.")
    target: Target | None = Field(
        None, description="Accelerator configuration as the runtime names it, such as ethos-u55-128."
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(1, description="Threads of the runtime.")

    @property
    def effective_runtime(self) -> Runtime | None:
        """The runtime of an inline device; None where the pool knows it."""
        if self.pool is not None:
            return None
        return self.runtime or Runtime.LITERT


_SET: dict[str, Any] = {CRD: {"x-kubernetes-list-type": "set"}}


CalibrationSamples = Annotated[int, Field(ge=0, le=65_536)]


class QuantizationSpace(Document):
    """Number formats to try. Absent lists mean all that model, data and devices allow."""

    schemes: Annotated[tuple[Scheme, ...], Field(min_length=1, max_length=6), Distinct] = Field(
        tuple(Scheme),
        description="none (float32), float16, dynamic (int8 weights), int8, int16x8 (int8 weights, int16 "
        "activations), int4 (int4 weights where possible). [none] turns quantization off.",
        json_schema_extra=_SET,
    )
    granularity: Annotated[tuple[Granularity, ...], Field(min_length=1, max_length=2), Distinct] = Field(
        tuple(Granularity),
        description="One weight scale per output channel, or per tensor.",
        json_schema_extra=_SET,
    )
    training: Annotated[tuple[QuantizationTraining, ...], Field(min_length=1, max_length=2), Distinct] = (
        Field(
            tuple(QuantizationTraining),
            description="none (quantization after all training), aware (weights are fine-tuned as integers; "
            "it needs dataset.train). [none] turns quantization-aware training off.",
            json_schema_extra=_SET,
        )
    )
    io: Annotated[tuple[InputOutput, ...], Field(min_length=1, max_length=2), Distinct] = Field(
        (InputOutput.FLOAT32,),
        description="Type of the model's inputs and outputs after static quantization; absent: float32.",
        json_schema_extra=_SET,
    )
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1, max_length=4), Distinct] = Field(
        (Algorithm.MIN_MAX,),
        description="How weights become integers after all training: minMax (the nearest, on a scale that "
        "reaches to the largest weight, and with four bits to where the squared error is least), octav, mse "
        "(on scales that clip the largest weights), gptq (rounded so that outputs on dataset.calibration "
        "change least; convolutions and dense layers). Absent: minMax.",
        json_schema_extra=_SET,
    )
    calibration_samples: Annotated[
        tuple[CalibrationSamples, ...], Field(min_length=1, max_length=8), Distinct
    ] = Field(
        (0,),
        description="Numbers of samples that set the ranges of static quantization, evenly spread over "
        "dataset.calibration; 0, which absent means: all of it, at most 512.",
        json_schema_extra=_SET,
    )
    bias_correction: Annotated[tuple[bool, ...], Field(min_length=1, max_length=2), Distinct] = Field(
        (False,),
        description="Whether biases take up the mean error of each layer's outputs on dataset.calibration; "
        "integer schemes only, and never where weights are trained as integers. Absent: [false].",
        json_schema_extra=_SET,
    )


class SparsitySpace(Document):
    """Patterns of zeros to try; they need `dataset.train`."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "!has(self.encodings) || !('sparse' in self.encodings) || !has(self.patterns) || "
                "self.patterns.exists(p, p in ['unstructured', '2:4', '1x4'])",
                "sparse files need zeros: one of unstructured, 2:4, 1x4 among space.sparsity.patterns",
                ".encodings",
            ),
            rule(
                "!has(self.levelOf) || self.levelOf == 'channels' || !has(self.patterns) || "
                "'channel' in self.patterns",
                "levelOf macs needs channel among space.sparsity.patterns; leave it out",
                ".levelOf",
            ),
        )
    )

    patterns: Annotated[tuple[SparsityPattern, ...], Field(min_length=1, max_length=5), Distinct] = Field(
        (
            SparsityPattern.NONE,
            SparsityPattern.UNSTRUCTURED,
            SparsityPattern.TWO_OF_FOUR,
            SparsityPattern.CHANNEL,
        ),
        description='none, unstructured, "2:4" (two zeros in each four weights), channel (whole channels, '
        'which are then removed), "1x4" (blocks of four, for runtimes with such kernels; not in the '
        "default). [none] turns sparsity off.",
        json_schema_extra=_SET,
    )
    max: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.9,
        description="Largest share of zeros in the pruned layers, or of removed channels; absent: 0.9.",
    )
    level_of: LevelOf = Field(
        LevelOf.CHANNELS,
        description="What the level of pattern channel is a share of: channels, or macs (so many channels "
        "go, of all layers alike, that this share of the multiply-accumulates goes); absent: channels.",
    )
    encodings: Annotated[tuple[SparsityEncoding, ...], Field(min_length=1, max_length=2), Distinct] = Field(
        (SparsityEncoding.DENSE,),
        description="dense, sparse (scheme none from half of zeros on, float16 with more: the file holds the "
        "weights without their zeros; for litert, whose ARM kernels skip them); absent: dense.",
        json_schema_extra=_SET,
    )


class ClusterRange(Document):
    """Numbers of distinct weights to try."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(has(self.min) ? self.min : 4) <= (has(self.max) ? self.max : 64)",
                "min must be at most max",
                ".min",
            )
        )
    )

    min: Annotated[int, Field(ge=2, le=256)] = Field(
        4, description="Fewest distinct weights in a tensor; absent: 4."
    )
    max: Annotated[int, Field(ge=2, le=256)] = Field(
        64, description="Most distinct weights in a tensor; absent: 64."
    )


class ClusteringSpace(Document):
    """Ways of drawing weights together to try."""

    stages: Annotated[tuple[ClusteringStage, ...], Field(min_length=1, max_length=3), Distinct] = Field(
        tuple(ClusteringStage),
        description="none, training (needs dataset.train), int8 (in the finished integer file). [none] turns "
        "clustering off.",
        json_schema_extra=_SET,
    )
    clusters: ClusterRange = Field(
        default_factory=ClusterRange, description="Numbers of distinct weights in each tensor."
    )


class RateStage(StrEnum):
    """When weights are trained for a number of bytes."""

    NONE = "none"
    TRAINING = "training"


class RatioRange(Document):
    """Budgets of entropy-coded bytes to try."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(has(self.min) ? self.min : 0.003) <= (has(self.max) ? self.max : 0.25)",
                "min must be at most max",
                ".min",
            )
        )
    )

    min: Annotated[float, Field(ge=0.0005, lt=1)] = Field(
        0.003, description="Smallest share of the weights' bytes in float32 to train for; absent: 0.003."
    )
    max: Annotated[float, Field(ge=0.0005, lt=1)] = Field(
        0.25, description="Largest share of the weights' bytes in float32 to train for; absent: 0.25."
    )


class RateSpace(Document):
    """Rate-aware training: weights trained for a number of entropy-coded bytes; it needs `dataset.train`."""

    stages: Annotated[tuple[RateStage, ...], Field(min_length=1, max_length=2), Distinct] = Field(
        tuple(RateStage),
        description="none, training (integer schemes with one scale per tensor, in place of sparsity and "
        "clustering). [none] turns it off.",
        json_schema_extra=_SET,
    )
    ratio: RatioRange = Field(
        default_factory=RatioRange,
        description="Coded bytes of the weights as a share of their bytes in float32.",
    )


_LAYER_RULES = rules(
    rule(
        "has(self.quantization) || has(self.sparsity) || has(self.clustering)",
        "the entry says nothing about its layers; expected quantization, sparsity or clustering",
    ),
    rule(
        "!has(self.quantization) || !has(self.quantization.io)",
        "inputs and outputs are the whole model's; expected in space.quantization.io",
        ".quantization.io",
    ),
    rule(
        "!has(self.quantization) || !has(self.quantization.bits) || self.quantization.bits == 0.0",
        "mean bits are the whole model's; expected scheme int4 or int8 for these layers",
        ".quantization.bits",
    ),
    rule(
        "!has(self.quantization) || !has(self.quantization.calibrationSamples) || "
        "self.quantization.calibrationSamples == 0",
        "one calibration is for the whole model; expected in space.quantization.calibrationSamples",
        ".quantization.calibrationSamples",
    ),
    rule(
        "!has(self.quantization) || !has(self.quantization.biasCorrection) || "
        "!self.quantization.biasCorrection",
        "biases are corrected in the whole model; expected in space.quantization.biasCorrection",
        ".quantization.biasCorrection",
    ),
    rule(
        "!has(self.sparsity) || !has(self.sparsity.pattern) || !(self.sparsity.pattern in ['unstructured', "
        "'1x4']) || has(self.sparsity.level) && self.sparsity.level > 0.0",
        "patterns unstructured and 1x4 need a level above 0; expected such as 0.5",
        ".sparsity.level",
    ),
    rule(
        "!has(self.sparsity) || !has(self.sparsity.level) || self.sparsity.level == 0.0 || "
        "has(self.sparsity.pattern) && self.sparsity.pattern in ['unstructured', '1x4']",
        "a level is for patterns unstructured and 1x4; leave it out",
        ".sparsity.level",
    ),
    rule(
        "!has(self.sparsity) || !has(self.sparsity.pattern) || self.sparsity.pattern != 'channel'",
        "channels tie layers together: pattern channel is for the whole model, in space.sparsity.patterns",
        ".sparsity.pattern",
    ),
    rule(
        "!has(self.sparsity) || !has(self.sparsity.encoding) || self.sparsity.encoding == 'dense'",
        "the encoding is the whole file's; expected in space.sparsity.encodings",
        ".sparsity.encoding",
    ),
    rule(
        "!has(self.sparsity) || !has(self.sparsity.levelOf) || self.sparsity.levelOf == 'channels'",
        "channels are removed from the whole model; expected in space.sparsity.levelOf",
        ".sparsity.levelOf",
    ),
    rule(
        "!has(self.clustering) || !has(self.clustering.stage) || self.clustering.stage == 'none' || "
        "has(self.clustering.clusters) && self.clustering.clusters > 0",
        "a stage needs the number of clusters; expected such as 16",
        ".clustering.clusters",
    ),
)
_LayerSettings = Annotated[LayerSettings, Field(json_schema_extra=_LAYER_RULES)]


class Space(Document):
    """What may be done to the model. What is absent is open: all that model, data and devices allow."""

    quantization: QuantizationSpace = Field(
        default_factory=QuantizationSpace, description="Number formats to try."
    )
    sparsity: SparsitySpace = Field(default_factory=SparsitySpace, description="Patterns of zeros to try.")
    clustering: ClusteringSpace = Field(
        default_factory=ClusteringSpace, description="Ways of drawing weights together to try."
    )
    allocation: Annotated[tuple[Allocation, ...], Field(min_length=1, max_length=2), Distinct] = Field(
        tuple(Allocation),
        description="How levels of zeros, clusters and 4-bit weights are divided among the layers: uniform "
        "(alike in all), sensitivity (the same in total, most where a probe finds that it costs least; it "
        "needs dataset.calibration).",
        json_schema_extra=_SET,
    )
    rate: RateSpace = Field(default_factory=RateSpace, description="Budgets of coded bytes to try.")
    layers: Annotated[tuple[_LayerSettings, ...], Field(max_length=64)] = Field(
        (),
        description="Fixed settings for layers by name; later entries win. A regular expression that matches "
        "no layer is an error.",
    )


class Search(Document):
    """How the space is searched."""

    sampler: Literal["auto", "tpe", "nsgaii", "random"] = Field(
        "auto",
        description="Optuna's sampler: tpe (multivariate), nsgaii, random; auto chooses for the budget.",
    )
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = Field(
        None, description="Seed of the search; absent: one is drawn at the start and kept in the status."
    )


class Budget(Document):
    """When the search ends. The budget may be changed while the study runs, and after it."""

    trials: Annotated[int, Field(ge=1, le=10_000)] = Field(
        60, description="Numbered trials, the baseline and infeasible ones included."
    )
    parallelism: Annotated[int, Field(ge=1, le=256)] = Field(
        4, description="Trials at a time; on one machine held to its cores and memory."
    )
    max_duration: Duration | None = Field(
        None, description="No new trial starts after this time: whole seconds, or text such as 6h."
    )
    max_failures: Annotated[int, Field(ge=0, le=10_000)] = Field(
        10, description="The study fails when more trials than this failed for causes of their own."
    )

    @property
    def seconds(self) -> float | None:
        """`maxDuration` in seconds."""
        return None if self.max_duration is None else seconds(self.max_duration)


class Compress(Document):
    """How the compress stage runs in a cluster; one machine ignores it, with a notice."""

    resources: Resources = Field(default_factory=Resources, description="Resources of a compress container.")
    queue: Name = Field("default", description="Kueue LocalQueue, where the cluster has Kueue.")


class Benchmark(Document):
    """How long a candidate is measured on a device."""

    max_duration: Duration = Field(
        "20s",
        description="Rounds of one candidate on one device end after this time at the latest; the result is "
        "then marked noisy. Whole seconds, or text such as 20s.",
    )
    half_width: Annotated[float, Field(gt=0, le=1)] = Field(
        0.03,
        description="Rounds end when half the 95% interval of the ratio to the reference is at most this.",
    )

    @property
    def seconds(self) -> float:
        """`maxDuration` in seconds."""
        return seconds(self.max_duration)


class EvaluationLimit(Document):
    """How long a candidate is evaluated."""

    max_duration: Duration = Field(
        "60s",
        description="Evaluation of one candidate stops after this time and reports the samples used and the "
        "interval. Whole seconds, or text such as 60s.",
    )

    @property
    def seconds(self) -> float:
        """`maxDuration` in seconds."""
        return seconds(self.max_duration)


class Artifacts(Document):
    """Where candidates are kept."""

    uri: Annotated[str, Field(max_length=2048)] = Field(
        "",
        description="s3, gs or pvc URI; empty: MLflow's artifact store, on one machine the work directory.",
        json_schema_extra=rules(_STORE_URI),
    )
    retain: Literal["front", "all"] = Field(
        "front", description="What is kept after the end: baseline and front, or every candidate."
    )
    secret_ref: SecretRef | None = Field(
        None, description="Credentials for the s3 or gs URI; in a cluster only."
    )


class Tracking(Document):
    """The MLflow server that the study reports to."""

    uri: Annotated[str, Field(max_length=2048)] = Field(
        "",
        description="Tracking URI; empty: the operator's default, on one machine a store of its own.",
        json_schema_extra=rules(_TRACKING_URI),
    )
    experiment: Annotated[str, Field(min_length=1, max_length=250)] | None = Field(
        None, description="MLflow experiment; absent: the study's name, in a cluster NAMESPACE.NAME."
    )
    registered_model: Annotated[str, Field(min_length=1, max_length=250)] | None = Field(
        None,
        description="Name under which the front's models are registered; absent: the study's name, in a "
        "cluster NAMESPACE.NAME.",
    )
    secret_ref: SecretRef | None = Field(
        None,
        description="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for "
        "the study's own Jobs; in a cluster only.",
    )


def _frozen(fields: list[str]) -> Iterator[dict[str, Any]]:
    for field in fields:
        kept = f"has(self.{field}) == has(oldSelf.{field})"
        yield rule(
            f"{kept} && (!has(self.{field}) || self.{field} == oldSelf.{field})",
            f"{field} cannot change once the study exists; only budget and suspend can",
            f".{field}",
        )


def _device_of(objective: str) -> str:
    """CEL: the device that an objective names, or the only one there is."""
    return (
        f"(has({objective}.device) ? {objective}.device : !has(self.devices) || size(self.devices) == 0 ? "
        f"'{DEFAULT_POOL}' : size(self.devices) == 1 ? self.devices[0].name : '')"
    )


def _runs(device: str, spec: str) -> str:
    """CEL: all schemes that the study lists run on the device's runtime; `none` is the baseline's."""
    schemes = f"{spec}.space.quantization.schemes"
    able = [
        f"{device}.runtime == '{runtime.value}' && {schemes}.all(s, s in "
        f"{sorted({Scheme.NONE.value, *(s.value for s in found)})})"
        for runtime, found in RUNNABLE.items()
    ]
    return "(" + " || ".join(able) + ")"


_NOT_SPARSE = (
    "!has(self.space) || !has(self.space.sparsity) || !has(self.space.sparsity.encodings) || "
    "!('sparse' in self.space.sparsity.encodings)"
)


def _number_rules() -> Iterator[dict[str, Any]]:
    """Rules on how the numbers of quantization are chosen: what that needs, and what it does not go with."""
    some = "!has(self.space) || !has(self.space.quantization) || !has(self.space.quantization.{0}) || {1}"
    asked = (
        ("algorithms", "self.space.quantization.algorithms.all(a, a == 'minMax')", INTEGER_SCHEMES),
        ("calibrationSamples", "self.space.quantization.calibrationSamples.all(n, n == 0)", STATIC_SCHEMES),
        ("biasCorrection", "!(true in self.space.quantization.biasCorrection)", INTEGER_SCHEMES),
    )
    for field, none, schemes in asked:
        names = [s.value for s in Scheme if s in schemes]
        yield rule(
            some.format(field, none) + " || !has(self.space.quantization.schemes) || "
            f"self.space.quantization.schemes.exists(s, s in {names})",
            f"{field} need one of {', '.join(names)} among space.quantization.schemes",
            f".space.quantization.{field}",
        )
    needs = (
        ("algorithms", "!('gptq' in self.space.quantization.algorithms)", "gptq"),
        (asked[1][0], asked[1][1], "a number of calibration samples"),
        (asked[2][0], asked[2][1], "bias correction"),
    )
    for field, none, what in needs:
        yield rule(
            "has(self.dataset.calibration) || " + some.format(field, none),
            f"{what} needs dataset.calibration; give it, or leave it out",
            f".space.quantization.{field}",
        )
    some_untrained = (
        " || (!has(self.space.quantization.training) || 'none' in self.space.quantization.training) && "
        "(!has(self.space.rate) || !has(self.space.rate.stages) || 'none' in self.space.rate.stages)"
    )
    yield rule(
        some.format(*asked[0][:2]) + some_untrained,
        "weights that are trained as integers have integers of their own; expected none among "
        "space.quantization.training and space.rate.stages, or algorithms left out",
        ".space.quantization.algorithms",
    )
    yield rule(
        some.format(*asked[2][:2]) + some_untrained,
        "biases of weights that are trained as integers are not corrected; expected none among "
        "space.quantization.training and space.rate.stages, or biasCorrection left out",
        ".space.quantization.biasCorrection",
    )
    yield rule(
        some.format(*asked[2][:2]) + " || !has(self.space.layers) || self.space.layers.all(l, "
        "!has(l.quantization) || !has(l.quantization.training) || l.quantization.training != 'aware')",
        "biases of weights that are trained as integers are not corrected, and a layer trains some; leave "
        "biasCorrection out, or training aware",
        ".space.quantization.biasCorrection",
    )
    yield rule(
        "has(self.dataset.calibration) || !has(self.space) || !has(self.space.layers) || "
        "self.space.layers.all(l, !has(l.quantization) || !has(l.quantization.algorithm) || "
        "l.quantization.algorithm != 'gptq')",
        "gptq in a layer needs dataset.calibration; give it, or leave gptq out",
        ".space.layers",
    )


def _spec_rules(schema: dict[str, Any]) -> None:
    """Rules that look at several sections, and the ones that keep accepted studies as they are."""
    schema[RULES] = [
        rule(
            "self.objectives.all(o, !has(o.device) || (has(self.devices) && size(self.devices) > 0 "
            f"? self.devices.exists(d, d.name == o.device) : o.device == '{DEFAULT_POOL}'))",
            "an objective names a device that is not in spec.devices",
            ".objectives",
        ),
        rule(
            f"self.objectives.all(o, !(o.metric in {_ON_DEVICE}) || has(o.device) || !has(self.devices) || "
            "size(self.devices) < 2)",
            "with several devices an objective on latency, latencyRatio or peakMemory must name its device",
            ".objectives",
        ),
        rule(
            "self.objectives.all(o, self.objectives.exists_one(p, p.metric == o.metric && "
            f"{_device_of('p')} == {_device_of('o')}))",
            "an objective is given twice; leave one out",
            ".objectives",
        ),
        rule(
            "has(self.dataset.train) || !has(self.space) || !has(self.space.sparsity) || "
            "!has(self.space.sparsity.patterns) || self.space.sparsity.patterns.all(p, p == 'none')",
            "sparsity needs dataset.train for fine-tuning; give it, or leave sparsity out",
            ".space.sparsity.patterns",
        ),
        rule(
            f"{_NOT_SPARSE} || has(self.dataset.train)",
            "sparse files need zeros, and zeros dataset.train for fine-tuning; give it, or leave sparse out",
            ".space.sparsity.encodings",
        ),
        rule(
            f"{_NOT_SPARSE} || !has(self.space.quantization) || !has(self.space.quantization.schemes) || "
            "self.space.quantization.schemes.exists(s, s in ['none', 'float16'])",
            "sparse files hold float weights: none or float16 among space.quantization.schemes",
            ".space.sparsity.encodings",
        ),
        rule(
            f"{_NOT_SPARSE} || !has(self.devices) || "
            "self.devices.all(d, has(d.pool) || !has(d.runtime) || d.runtime in "
            f"{sorted(r.value for r in SPARSE_RUNTIMES)})",
            "the runtime of a device reads dense files only; expected litert on all devices, or leave sparse "
            "out",
            ".space.sparsity.encodings",
        ),
        rule(
            "has(self.dataset.train) || !has(self.space) || !has(self.space.clustering) || "
            "!has(self.space.clustering.stages) || !('training' in self.space.clustering.stages)",
            "clustering stage training needs dataset.train; give it, or leave training out",
            ".space.clustering.stages",
        ),
        rule(
            "has(self.dataset.train) || !has(self.space) || !has(self.space.quantization) || "
            "!has(self.space.quantization.training) || !('aware' in self.space.quantization.training)",
            "quantization-aware training needs dataset.train; give it, or leave aware out",
            ".space.quantization.training",
        ),
        rule(
            "!has(self.space) || !has(self.space.quantization) || !has(self.space.quantization.training) || "
            "!('aware' in self.space.quantization.training) || !has(self.space.quantization.schemes) || "
            "self.space.quantization.schemes.exists(s, s in ['dynamic', 'int8', 'int16x8', 'int4'])",
            "quantization-aware training needs one of dynamic, int8, int16x8, int4 among "
            "space.quantization.schemes",
            ".space.quantization.training",
        ),
        rule(
            "has(self.dataset.train) || !has(self.space) || !has(self.space.rate) || "
            "!has(self.space.rate.stages) || !('training' in self.space.rate.stages)",
            "rate-aware training needs dataset.train; give it, or leave training out",
            ".space.rate.stages",
        ),
        rule(
            "!has(self.space) || !has(self.space.rate) || !has(self.space.rate.stages) || "
            "!('training' in self.space.rate.stages) || !has(self.space.quantization) || "
            "!has(self.space.quantization.schemes) || "
            "self.space.quantization.schemes.exists(s, s in ['dynamic', 'int8', 'int16x8', 'int4'])",
            "rate-aware training needs one of dynamic, int8, int16x8, int4 among space.quantization.schemes",
            ".space.rate.stages",
        ),
        rule(
            "has(self.dataset.calibration) || !has(self.space) || !has(self.space.allocation) || "
            "!('sensitivity' in self.space.allocation)",
            "allocation by sensitivity needs dataset.calibration; give it, or leave sensitivity out",
            ".space.allocation",
        ),
        rule(
            "has(self.dataset.calibration) || !has(self.space) || !has(self.space.quantization) || "
            "!has(self.space.quantization.schemes) || "
            "!self.space.quantization.schemes.exists(s, s in ['int8', 'int16x8', 'int4'])",
            "schemes int8, int16x8 and int4 need dataset.calibration; give it, or leave them out",
            ".space.quantization.schemes",
        ),
        rule(
            "!has(self.space) || !has(self.space.quantization) || !has(self.space.quantization.io) || "
            "!('int8' in self.space.quantization.io) || !has(self.space.quantization.schemes) || "
            "self.space.quantization.schemes.exists(s, s in ['int8', 'int16x8', 'int4'])",
            "int8 inputs need one of int8, int16x8, int4 among space.quantization.schemes",
            ".space.quantization.io",
        ),
        *_number_rules(),
        rule(
            "!has(self.space) || !has(self.space.clustering) || !has(self.space.clustering.stages) || "
            "!('int8' in self.space.clustering.stages) || !has(self.space.quantization) || "
            "!has(self.space.quantization.schemes) || "
            "self.space.quantization.schemes.exists(s, s in ['dynamic', 'int8', 'int16x8', 'int4'])",
            "clustering in the finished integer file needs one of dynamic, int8, int16x8, int4 among "
            "space.quantization.schemes",
            ".space.clustering.stages",
        ),
        rule(
            "has(self.dataset.train) || !has(self.space) || !has(self.space.layers) || "
            "self.space.layers.all(l, !has(l.sparsity) || !has(l.sparsity.pattern) || "
            "l.sparsity.pattern == 'none')",
            "sparsity of a layer needs dataset.train for fine-tuning; give it, or leave sparsity out",
            ".space.layers",
        ),
        rule(
            "has(self.dataset.train) || !has(self.space) || !has(self.space.layers) || "
            "self.space.layers.all(l, !has(l.quantization) || !has(l.quantization.training) || "
            "l.quantization.training != 'aware')",
            "quantization-aware training of a layer needs dataset.train; give it, or leave aware out",
            ".space.layers",
        ),
        rule(
            "has(self.dataset.train) || !has(self.space) || !has(self.space.layers) || "
            "self.space.layers.all(l, !has(l.clustering) || !has(l.clustering.stage) || "
            "l.clustering.stage != 'training')",
            "clustering stage training of a layer needs dataset.train; give it, or leave training out",
            ".space.layers",
        ),
        rule(
            "has(self.dataset.calibration) || !has(self.space) || !has(self.space.layers) || "
            "self.space.layers.all(l, !has(l.quantization) || !has(l.quantization.scheme) || "
            "!(l.quantization.scheme in ['int8', 'int16x8', 'int4']))",
            "scheme int8, int16x8 or int4 of a layer needs dataset.calibration; give it, or leave it out",
            ".space.layers",
        ),
        rule(
            "!has(self.devices) || !has(self.space) || !has(self.space.quantization) || "
            "!has(self.space.quantization.schemes) || "
            f"size(self.space.quantization.schemes) == {len(Scheme)} || "
            f"self.devices.all(d, has(d.pool) || !has(d.runtime) || {_runs('d', 'self')})",
            "the runtime of a device cannot run one of the schemes: edgetpu runs int8; ethos-u int8 and "
            "int16x8; tflm int8, int16x8, int4; leave the others out, or leave schemes out",
            ".space.quantization.schemes",
        ),
        *_frozen([name for name in schema["properties"] if name not in MUTABLE]),
    ]


class StudySpec(Document):
    """What to optimize, for what, and with which means."""

    model_config = ConfigDict(json_schema_extra=_spec_rules)

    model: Model = Field(description="The trained model to optimize.")
    dataset: Dataset = Field(description="The data, in up to four parts.")
    training: Training = Field(
        default_factory=Training,
        description="Fine-tuning settings; absent ones come from the model, as `paretune plan` shows.",
    )
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=8)] = Field(
        description="Metrics to optimize, each with the constraints on it."
    )
    devices: Annotated[tuple[Device, ...], Field(max_length=16)] = Field(
        (),
        description="Devices to measure on; absent: one named cpu (litert, one thread).",
        json_schema_extra={
            CRD: {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], NO_DEFAULTS: True}
        },
    )
    space: Space = Field(
        default_factory=Space,
        description="What may be done to the model; absent: all that model, data and devices allow.",
        json_schema_extra={CRD: {NO_DEFAULTS: True}},
    )
    search: Search = Field(default_factory=Search, description="How the space is searched.")
    budget: Budget = Field(default_factory=Budget, description="When the search ends.")
    compress: Compress = Field(
        default_factory=Compress, description="How the compress stage runs in a cluster."
    )
    evaluation: EvaluationLimit = Field(
        default_factory=EvaluationLimit, description="How long a candidate is evaluated."
    )
    benchmark: Benchmark = Field(
        default_factory=Benchmark, description="How long a candidate is measured on a device."
    )
    artifacts: Artifacts = Field(default_factory=Artifacts, description="Where candidates are kept.")
    tracking: Tracking = Field(
        default_factory=Tracking, description="The MLflow server that the study reports to."
    )
    suspend: bool = Field(
        False, description="No new trial starts while this is true; running ones come to their end."
    )

    @property
    def effective_devices(self) -> tuple[Device, ...]:
        """The devices that candidates are measured on: `devices`, or the one that stands in for none."""
        return self.devices or (Device(name=DEFAULT_POOL, runtime=Runtime.LITERT),)

    def device_of(self, objective: Objective) -> str | None:
        """The device that an objective is measured on; None for a metric of the candidate itself.

        Raises:
            ValueError: when the objective leaves its device out and there are several, or names none of them.
        """
        if not objective.definition.on_device:
            return None
        names = [device.name for device in self.effective_devices]
        name = objective.device or (names[0] if len(names) == 1 else None)
        if name not in names:
            raise ValueError(
                f"{objective.metric}: device {name or 'left out'}; expected one of {', '.join(names)}"
            )
        return name


class TrialCounts(TolerantDocument):
    """Trials by state."""

    running: Annotated[int, Field(ge=0)] = Field(0, description="Begun and not ended.")
    complete: Annotated[int, Field(ge=0)] = Field(0, description="Measured in full, all constraints met.")
    infeasible: Annotated[int, Field(ge=0)] = Field(0, description="A constraint is not met.")
    pruned: Annotated[int, Field(ge=0)] = Field(0, description="Stopped early: surely dominated.")
    failed: Annotated[int, Field(ge=0)] = Field(0, description="Ended by a failure of their own.")
    duplicate: Annotated[int, Field(ge=0)] = Field(0, description="Suggestions seen before, asked again.")


class DeviceStatus(TolerantDocument):
    """A device as it was when the study was accepted."""

    pool: ObjectName = Field(description="DevicePool whose nodes it is.")
    runtime: Runtime = Field(description="Runtime that executes the candidates.")
    target: Target | None = Field(None, description="Accelerator configuration, where the runtime has any.")
    threads: Annotated[int, Field(ge=1, le=256)] = Field(1, description="Threads of the runtime.")


class StoreStatus(TolerantDocument):
    """The artifact store while it does not answer."""

    failures: Annotated[int, Field(ge=0)] = Field(0, description="Stages that it failed in a row.")
    since: Annotated[str, Field(max_length=64)] = Field("", description="Since when (RFC 3339).")
    retry: Annotated[str, Field(max_length=64)] = Field(
        "", description="When the next stage may try it (RFC 3339)."
    )
    message: Sentence = Field("", description="What it said.")


class StudyStatus(TolerantDocument):
    """How far the study is, and what was fixed when it was accepted."""

    observed_generation: Annotated[int, Field(ge=0)] = Field(
        0, description="metadata.generation that this status was made for."
    )
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = Field(
        (),
        description="Ready (accepted), Progressing, Complete, Failed; Tracked and Published for MLflow.",
        json_schema_extra=CONDITION_LIST,
    )
    seed: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = Field(None, description="Seed of the search.")
    coder: Line = Field("", description="Entropy coder behind downloadSize, such as paretune-1.")
    sampler: Line = Field("", description="Sampler and its version.")
    images: Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=8)] = Field(
        default_factory=dict, description="Images of the stages, by stage."
    )
    devices: Annotated[dict[str, DeviceStatus], Field(max_length=16)] = Field(
        default_factory=dict, description="The devices as they were at acceptance, by name."
    )
    tracking: Annotated[str, Field(max_length=2048)] = Field("", description="MLflow server of the study.")
    intake: IntakeSummary | None = Field(None, description="What reading model and data found.")
    intake_digest: Digest = Field(
        "", description="sha256 of intake.json in the store, which the stages hold against it."
    )
    attempts: Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(max_length=8)] = Field(
        default_factory=dict, description="Times that a stage of the study itself began anew, by stage."
    )
    store: StoreStatus | None = Field(None, description="There while the artifact store does not answer.")
    active_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Time that the study was worked on; budget.maxDuration is held against it."
    )
    exhausted: bool = Field(False, description="The space has no settings left that were not tried.")
    published: Digest = Field("", description="Digest of the front that is in MLflow's registry.")
    retained: Digest = Field("", description="Digest of the candidates that were kept in the store.")
    progress: Line = Field("", description="Trials ended of the budget's, such as 23/60.")
    trials: TrialCounts = Field(default_factory=TrialCounts, description="Trials by state.")
    front: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=256)] = Field(
        (), description="Numbers of the trials on the front."
    )
    best: Sentence = Field("", description="The best of each objective among feasible trials.")
    hypervolume: float | None = Field(None, description="Share of the objective space that the front covers.")
    started: Annotated[str, Field(max_length=64)] = Field("", description="When the study began (RFC 3339).")
    finished: Annotated[str, Field(max_length=64)] = Field("", description="When it ended (RFC 3339).")


class OptimizationStudy(Document):
    """A search for the versions of a trained model that are worth shipping."""

    api_version: Literal["paretune.dev/v1alpha1"] = Field(API_VERSION, description="API version.")
    kind: Literal["OptimizationStudy"] = Field("OptimizationStudy", description="Kind of the object.")
    metadata: Metadata = Field(description="Standard object metadata.")
    spec: StudySpec = Field(description="What to optimize, for what, and with which means.")
    status: StudyStatus = Field(default_factory=StudyStatus, description="Written by the operator.")
