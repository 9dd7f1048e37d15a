"""OptimizationTrial: the record of one trial, and the truth about it."""

from enum import StrEnum
from typing import Annotated, Literal

from paretune_contract.base import Document
from paretune_contract.measurement import Metrics
from paretune_contract.settings import Settings
from paretune_contract.stages import Environment, Evaluation, Latency, Memory, Step
from pydantic import Field

from .meta import API_VERSION, Metadata


class State(StrEnum):
    PENDING = "Pending"
    QUEUED = "Queued"
    COMPRESSING = "Compressing"
    BENCHMARKING = "Benchmarking"
    COMPLETE = "Complete"
    INFEASIBLE = "Infeasible"
    PRUNED = "Pruned"
    FAILED = "Failed"


FINAL_STATES = frozenset({State.COMPLETE, State.INFEASIBLE, State.PRUNED, State.FAILED})


class Ask(Document):
    """How the settings were suggested, so that `paretune replay` can do it again."""

    seed: int = Field(description="Seed of the sampler: sha256(search.seed, number, retry), 32 bits.")
    seen: str = Field(description='Numbers of the trials whose results were known, as ranges: "0-41,43".')
    retry: int = Field(0, description="How many suggestions were rejected as already seen before this one.")
    origin: Literal["baseline", "reference", "prior", "sampler"] = "sampler"


class TrialSpec(Document):
    study_name: str
    number: Annotated[int, Field(ge=0)]
    settings: Settings
    ask: Ask


class TrialArtifact(Document):
    uri: str = Field(description="Relative to the work directory, or in the store.")
    sha256: str
    bytes: int


class PoolMeasurement(Document):
    """What the benchmark on one pool told beside the metrics."""

    latency: Latency | None = None
    memory: Memory | None = None
    environment: Environment | None = None
    reference: str = Field("", description="sha256 of the file that the rounds were interleaved with.")
    copied_from: int | None = Field(None, description="Trial whose equal bytes were measured before.")


class FinalMeasurement(Document):
    """Fresh rounds and test metrics, added once, after the search."""

    metrics: Metrics = Field(default_factory=dict)
    test: Metrics = Field(default_factory=dict)
    pools: dict[str, PoolMeasurement] = Field(default_factory=dict)


class TrialStatus(Document):
    state: State = State.PENDING
    reason: str = ""
    message: str = ""
    metrics: Metrics = Field(default_factory=dict)
    artifact: TrialArtifact | None = None
    coder: str = ""
    evaluation: Evaluation | None = None
    dtypes: dict[str, int] = Field(default_factory=dict)
    sparsity: float | None = None
    pools: dict[str, PoolMeasurement] = Field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    attempts: int = 0
    started: str = ""
    finished: str = ""
    final: FinalMeasurement | None = None


class OptimizationTrial(Document):
    api_version: Literal["paretune.dev/v1alpha1"] = API_VERSION
    kind: Literal["OptimizationTrial"] = "OptimizationTrial"
    metadata: Metadata
    spec: TrialSpec
    status: TrialStatus = TrialStatus()

    @property
    def number(self) -> int:
        return self.spec.number

    @property
    def settings(self) -> Settings:
        return self.spec.settings

    @property
    def final(self) -> bool:
        """The trial will not change any more, but for `status.final`."""
        return self.status.state in FINAL_STATES
