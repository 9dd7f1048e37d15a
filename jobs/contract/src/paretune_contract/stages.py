"""Requests and results of the stages. Paths are absolute and local to the machine where the stage runs."""

from typing import Annotated

from pydantic import Field

from .base import Document, Line, Sentence, TolerantDocument
from .dataset import DataInfo, DataRequest, Scaling, Split
from .failure import Reason
from .measurement import Metrics
from .model import ModelInfo
from .settings import Settings
from .training import ResolvedTraining, Training

SCHEMA_VERSION = 1
INTAKE, COMPRESS, EVALUATE, BENCHMARK = "intake", "compress", "evaluate", "benchmark"


class Artifact(Document):
    """A finished file, named by its content."""

    path: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: int


class Step(Document):
    """One step of a stage and what it cost."""

    name: Line = Field(description="Name of the step.")
    seconds: Annotated[float, Field(ge=0)] = Field(description="Seconds it took.")
    cached: bool = Field(False, description="It ran before, and its result was taken from the cache.")
    spared: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Seconds that it took when it ran; 0 unless its result came from the cache."
    )
    note: Sentence = Field("", description="What there is to know about it.")


class Result(TolerantDocument):
    """Common to all results. Without `reason` the stage succeeded."""

    schema_version: int = SCHEMA_VERSION
    reason: Reason | None = None
    message: str = ""
    steps: tuple[Step, ...] = ()
    seconds: float = 0.0


# --- intake -----------------------------------------------------------------------------------------------


class IntakeRequest(Document):
    """Read the model and the data, once per study. Runs in a process of its own."""

    model_uri: str
    dataset: dict[Split, DataRequest]
    scaling: Scaling = Scaling()
    training: Training = Training()
    metrics: tuple[str, ...] = Field((), description="Quality metrics of the objectives, e.g. `accuracy`.")
    layers: tuple[str, ...] = Field((), description="Regexes of `space.layers`; each must match a layer.")
    cache: str = Field(description="Folder of content-addressed steps.")
    model_limit: int = Field(2 * 2**30, description="Largest model file in bytes.")


class IntakeResult(Result):
    """What there is to work with."""

    model: ModelInfo | None = None
    data: dict[Split, DataInfo] = Field(default_factory=dict)
    scaling: Scaling = Scaling()
    training: ResolvedTraining | None = Field(None, description="None where there is nothing to train with.")
    notes: tuple[str, ...] = Field((), description="Sentences for people, such as an added axis.")


# --- compress ---------------------------------------------------------------------------------------------


class CompressRequest(Document):
    """Make one candidate: run the chain of steps, inspect the file, size it, evaluate it."""

    settings: Settings
    model: ModelInfo
    data: dict[Split, DataInfo]
    scaling: Scaling
    training: ResolvedTraining | None = None
    metrics: tuple[str, ...] = Field(description="Quality metrics to evaluate on `evaluation`.")
    size_limits: dict[str, float] = Field(
        default_factory=dict, description="Upper bounds in bytes; a file above one is not evaluated."
    )
    cache: str
    candidates: str = Field(description="Folder for `<sha256>.tflite`.")
    threads: int = 1
    evaluation_seconds: float = Field(60.0, description="Evaluation stops here and reports the samples used.")
    seed: int = 0
    reference: Artifact | None = Field(None, description="The baseline's file, for agreement.")


class TensorInspection(Document):
    """A weight tensor as found in the finished file."""

    layer: str
    dtype: str
    zeros: float = Field(description="Share of exact zeros (for integers: equal to the zero point).")
    distinct: int
    scales: int = Field(description="Number of quantization scales; 0 for floats.")
    two_of_four: bool = Field(
        False, description="No four neighbors along the input channels hold more than two non-zeros."
    )
    weights: int = Field(0, description="Number of weights in the tensor; 0: not counted.")
    zero_blocks: float = Field(
        0.0, description="Share of the blocks of four along the input channels that are all zero."
    )


class Inspection(Document):
    """What the finished file really contains."""

    tensors: tuple[TensorInspection, ...]
    dtypes: dict[str, int] = Field(description="Weights by type, e.g. {'INT8': 77360}.")
    sparsity: float = Field(description="Share of zeros over all weights.")
    inputs: tuple[str, ...] = Field(description="Input types.")
    outputs: tuple[str, ...] = Field(description="Output types.")


class Evaluation(Document):
    """How far the evaluation came."""

    split: Split = Field(description="The part of the data set that was used.")
    samples: Annotated[int, Field(ge=0)] = Field(description="Samples evaluated.")
    of: Annotated[int, Field(ge=0)] = Field(description="Samples that there are.")
    seconds: Annotated[float, Field(ge=0)] = Field(description="Seconds it took.")
    complete: bool = Field(description="All samples were evaluated.")


class CompressResult(Result):
    """A candidate and what is known about it before any device has seen it."""

    artifact: Artifact | None = None
    coder: str = ""
    metrics: Metrics = Field(default_factory=dict)
    evaluation: Evaluation | None = None
    inspection: Inspection | None = None


# --- evaluate ---------------------------------------------------------------------------------------------


class EvaluateRequest(Document):
    """Measure quality metrics of a finished file on one split; used for `test`, once, at the end."""

    artifact: Artifact
    data: DataInfo
    scaling: Scaling
    metrics: tuple[str, ...]
    reference: Artifact | None = None
    threads: int = 1
    evaluation_seconds: float = 600.0
    cache: str


class EvaluateResult(Result):
    """Quality metrics with 95% intervals."""

    metrics: Metrics = Field(default_factory=dict)
    evaluation: Evaluation | None = None


# --- benchmark --------------------------------------------------------------------------------------------


class BenchmarkRequest(Document):
    """Measure a candidate against its reference in interleaved rounds."""

    candidate: Artifact
    reference: Artifact
    pool: str
    runtime: str = "litert"
    threads: int = 1
    half_width: float = Field(0.03, description="Stop when the ratio's 95% half-width is at most this.")
    max_seconds: float = Field(20.0, description="Stop here at the latest; the result is then marked noisy.")
    seed: int = 0


class Environment(Document):
    """Where a measurement was taken."""

    node: Line = Field(description="Name of the machine.")
    cpu: Line = Field(description="CPU model as the machine names it.")
    architecture: Line = Field(description="Instruction set, such as `aarch64`.")
    cores: Annotated[int, Field(ge=0)] = Field(description="CPU cores that the benchmark could use.")
    runtime: Line = Field(description="Runtime and version, e.g. `litert 2.3.0 (XNNPACK)`.")
    threads: Annotated[int, Field(ge=0)] = Field(description="Threads of the runtime.")
    python: Line = Field(description="Version of Python.")
    system: Line = Field(description="Operating system and its version.")


class Latency(Document):
    """Distribution of the time of one inference at batch 1, in seconds."""

    median: float = Field(description="Median of all inferences.")
    p10: float = Field(description="10th percentile.")
    p90: float = Field(description="90th percentile.")
    low: float = Field(description="Lower end of the 95% interval of the median.")
    high: float = Field(description="Upper end of that interval.")
    ratio: float = Field(description="Median of the candidate / median of the reference, by round.")
    ratio_low: float = Field(description="Lower end of the 95% interval of the ratio.")
    ratio_high: float = Field(description="Upper end of that interval.")
    rounds: Annotated[int, Field(ge=0)] = Field(description="Rounds, candidate and reference in turn.")
    inferences: Annotated[int, Field(ge=0)] = Field(description="Inferences of the candidate.")
    noisy: bool = Field(description="The time was up before the interval was narrow enough.")
    statistic: Line = Field("median", description="Statistic that `latency` reports.")


class Memory(Document):
    """Peak memory in bytes."""

    arena: Annotated[int, Field(ge=0)] = Field(description="Peak of live activation tensors (liveness sum).")
    process: Annotated[int, Field(ge=0)] = Field(
        description="Peak resident set of a fresh process that ran the model once."
    )


class BenchmarkResult(Result):
    """Measurements of one candidate on one pool. `metrics` carries the pool: `latency/cpu`."""

    metrics: Metrics = Field(default_factory=dict)
    latency: Latency | None = None
    memory: Memory | None = None
    environment: Environment | None = None
