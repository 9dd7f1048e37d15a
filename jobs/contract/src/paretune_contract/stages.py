"""Requests and results of the stages. Paths are absolute and local to the machine where the stage runs."""

from typing import Annotated

from pydantic import Field

from .base import Document, TolerantDocument
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

    name: str
    seconds: float
    cached: bool = False
    note: str = ""


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


class Inspection(Document):
    """What the finished file really contains."""

    tensors: tuple[TensorInspection, ...]
    dtypes: dict[str, int] = Field(description="Weights by type, e.g. {'INT8': 77360}.")
    sparsity: float = Field(description="Share of zeros over all weights.")
    inputs: tuple[str, ...] = Field(description="Input types.")
    outputs: tuple[str, ...] = Field(description="Output types.")


class Evaluation(Document):
    """How far the evaluation came."""

    split: Split
    samples: int
    of: int
    seconds: float
    complete: bool


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

    node: str
    cpu: str
    architecture: str
    cores: int
    runtime: str = Field(description="Runtime and version, e.g. `litert 2.3.0 (XNNPACK)`.")
    threads: int
    python: str
    system: str


class Latency(Document):
    """Distribution of the time of one inference at batch 1, in seconds."""

    median: float
    p10: float
    p90: float
    low: float = Field(description="Lower end of the 95% interval of the median.")
    high: float
    ratio: float = Field(description="Median of the candidate / median of the reference, by round.")
    ratio_low: float
    ratio_high: float
    rounds: int
    inferences: int
    noisy: bool
    statistic: str = "median"


class Memory(Document):
    """Peak memory in bytes."""

    arena: int = Field(description="Peak of live activation tensors (liveness sum).")
    process: int = Field(description="Peak resident set of a fresh process that ran the model once.")


class BenchmarkResult(Result):
    """Measurements of one candidate on one pool. `metrics` carries the pool: `latency/cpu`."""

    metrics: Metrics = Field(default_factory=dict)
    latency: Latency | None = None
    memory: Memory | None = None
    environment: Environment | None = None
