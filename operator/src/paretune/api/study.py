"""OptimizationStudy: what a user applies."""

from enum import StrEnum
from typing import Annotated, Literal

from paretune_contract.base import Document
from paretune_contract.dataset import PerChannel, Uri
from paretune_contract.settings import (
    ClusteringStage,
    Granularity,
    InputOutput,
    LayerSettings,
    Scheme,
    SparsityPattern,
)
from paretune_contract.training import Training
from pydantic import Field

from .meta import API_VERSION, Metadata

Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]


class SecretRef(Document):
    name: Name


class Model(Document):
    uri: Uri
    secret_ref: SecretRef | None = None


class DataSource(Document):
    uri: Uri
    format: str | None = None
    secret_ref: SecretRef | None = None


class Dataset(Document):
    train: DataSource | None = None
    calibration: DataSource | None = None
    evaluation: DataSource
    test: DataSource | None = None
    scale: float | PerChannel = 1.0
    offset: float | PerChannel = 0.0


class Goal(StrEnum):
    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class Objective(Document):
    metric: str
    device: Name | None = None
    goal: Goal | None = None
    at_least: float | None = None
    at_most: int | str | None = None
    max_drop: float | None = None
    max_ratio: float | None = None


class Runtime(StrEnum):
    LITERT = "litert"
    EDGETPU = "edgetpu"
    ETHOS_U = "ethos-u"
    TFLM = "tflm"


class Device(Document):
    name: Name
    pool: Name | None = None
    runtime: Runtime | None = None
    target: str | None = None
    threads: int = 1


class QuantizationSpace(Document):
    schemes: tuple[Scheme, ...] = tuple(Scheme)
    granularity: tuple[Granularity, ...] = tuple(Granularity)
    io: tuple[InputOutput, ...] = (InputOutput.FLOAT32,)


class SparsitySpace(Document):
    patterns: tuple[SparsityPattern, ...] = tuple(SparsityPattern)
    max: float = 0.9


class ClusterRange(Document):
    min: int = 4
    max: int = 64


class ClusteringSpace(Document):
    stages: tuple[ClusteringStage, ...] = tuple(ClusteringStage)
    clusters: ClusterRange = ClusterRange()


class Space(Document):
    quantization: QuantizationSpace = QuantizationSpace()
    sparsity: SparsitySpace = SparsitySpace()
    clustering: ClusteringSpace = ClusteringSpace()
    layers: tuple[LayerSettings, ...] = ()


class Search(Document):
    sampler: Literal["auto", "tpe", "nsgaii", "random"] = "auto"
    seed: int | None = None


class Budget(Document):
    trials: int = 60
    parallelism: int = 4
    max_duration: int | str | None = None
    max_failures: int = 10


class Artifacts(Document):
    uri: str = ""
    retain: Literal["front", "all"] = "front"


class Tracking(Document):
    uri: str = ""
    experiment: str | None = None
    registered_model: str | None = None


class StudySpec(Document):
    model: Model
    dataset: Dataset
    training: Training = Training()
    objectives: tuple[Objective, ...]
    devices: tuple[Device, ...] = ()
    space: Space = Space()
    search: Search = Search()
    budget: Budget = Budget()
    artifacts: Artifacts = Artifacts()
    tracking: Tracking = Tracking()
    suspend: bool = False


class OptimizationStudy(Document):
    api_version: Literal["paretune.dev/v1alpha1"] = API_VERSION
    kind: Literal["OptimizationStudy"] = "OptimizationStudy"
    metadata: Metadata
    spec: StudySpec
