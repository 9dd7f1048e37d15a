"""OptimizationTrial: the record of one trial, and the truth about it."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from paretune_contract.base import Document, Line, Sentence
from paretune_contract.measurement import Metrics
from paretune_contract.settings import Settings
from paretune_contract.stages import Environment, Evaluation, Latency, Memory, Step
from pydantic import ConfigDict, Field

from .meta import API_VERSION, Metadata
from .schema import CRD, RULES, ObjectName, rule

_SHA256 = r"^[0-9a-f]{64}$"
_SEEN = r"^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$"


class State(StrEnum):
    """Where a trial stands; the last four are final."""

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

    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        description="Seed of the sampler: sha256(search.seed, number, retry), 32 bits."
    )
    seen: Annotated[str, Field(max_length=8192, pattern=_SEEN)] = Field(
        description='Numbers of the trials whose results were known, as ranges: "0-41,43".'
    )
    retry: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="How many suggestions were rejected as already seen before this one."
    )
    origin: Literal["baseline", "reference", "prior", "sampler"] = Field(
        "sampler", description="Who suggested: the study itself, its probes, or the sampler."
    )


class TrialSpec(Document):
    """What the trial tries. It never changes."""

    study_name: ObjectName = Field(description="Name of the study, in the same namespace.")
    number: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        description="Number of the trial; 0 is the untouched model. Never reused."
    )
    settings: Settings = Field(description="What is done to the model; empty: nothing.")
    ask: Ask = Field(description="How the settings were suggested.")


class TrialArtifact(Document):
    """The finished file."""

    uri: Annotated[str, Field(max_length=2048)] = Field(
        description="Relative to the work directory, or in the store."
    )
    sha256: Annotated[str, Field(pattern=_SHA256, max_length=64)] = Field(
        description="sha256 of the file, hex."
    )
    bytes: Annotated[int, Field(ge=0)] = Field(description="Size of the file.")


class PoolMeasurement(Document):
    """What the benchmark on one pool told beside the metrics."""

    latency: Latency | None = Field(None, description="Distribution of the time of one inference.")
    memory: Memory | None = Field(None, description="Peak memory.")
    environment: Environment | None = Field(None, description="Where it was measured.")
    reference: Annotated[str, Field(max_length=64)] = Field(
        "", description="sha256 of the file that the rounds were interleaved with."
    )
    copied_from: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Trial whose equal bytes were measured before."
    )


Pools = Annotated[dict[str, PoolMeasurement], Field(max_length=16)]


class FinalMeasurement(Document):
    """Fresh rounds and test metrics, added once, after the search."""

    metrics: Metrics = Field(default_factory=dict, description="Metrics from fresh rounds.")
    test: Metrics = Field(default_factory=dict, description="Quality on `dataset.test`.")
    pools: Pools = Field(default_factory=dict, description="The fresh rounds, by device.")
    faults: Annotated[dict[str, Sentence], Field(max_length=32)] = Field(
        default_factory=dict, description="What could not be measured, by device or `test`, and why."
    )


class TrialStatus(Document):
    """How the trial went."""

    state: State = Field(
        State.COMPRESSING,
        description="Where the trial stands; the last four are final. A record is made to be compressed.",
        json_schema_extra={CRD: {"default": State.COMPRESSING.value}},
    )
    reason: Line = Field("", description="Machine-readable cause of the state in CamelCase.")
    message: Sentence = Field("", description="A sentence for people.")
    metrics: Metrics = Field(
        default_factory=dict, description="What the search saw, by name: accuracy, latency/cpu."
    )
    artifact: TrialArtifact | None = Field(None, description="The finished file.")
    coder: Line = Field("", description="Entropy coder behind downloadSize, such as paretune-1.")
    evaluation: Evaluation | None = Field(None, description="How far the evaluation came.")
    dtypes: Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(max_length=32)] = Field(
        default_factory=dict, description="Weights in the finished file by type, such as INT8: 77360."
    )
    sparsity: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Share of zeros among the weights of the finished file."
    )
    pools: Pools = Field(default_factory=dict, description="What was measured beside the metrics, by device.")
    steps: Annotated[tuple[Step, ...], Field(max_length=64)] = Field(
        (), description="Steps and what they cost."
    )
    attempts: Annotated[int, Field(ge=0)] = Field(
        0, description="Times that a stage of the trial began again."
    )
    retries: Annotated[dict[Line, Annotated[int, Field(ge=0)]], Field(max_length=16)] = Field(
        default_factory=dict, description="Times that the running stage was tried again, by reason."
    )
    started: Annotated[str, Field(max_length=64)] = Field("", description="When the trial began (RFC 3339).")
    finished: Annotated[str, Field(max_length=64)] = Field("", description="When it ended (RFC 3339).")
    final: FinalMeasurement | None = Field(
        None, description="Fresh rounds and test metrics, for trials of the front."
    )


_FINAL = "['Complete', 'Infeasible', 'Pruned', 'Failed']"
_KEPT = ("state", "reason", "metrics", "artifact")
"""What of a status stays when its state is final; `final` is added later."""


def _keep_final(schema: dict[str, Any]) -> None:
    """On the whole object, where a status that is taken away is seen too."""
    kept = " && ".join(
        f"has(self.status.{name}) == has(oldSelf.status.{name}) && "
        f"(!has(self.status.{name}) || self.status.{name} == oldSelf.status.{name})"
        for name in _KEPT
    )
    was_final = f"has(oldSelf.status) && has(oldSelf.status.state) && oldSelf.status.state in {_FINAL}"
    schema[RULES] = [
        rule(
            f"!({was_final}) || has(self.status) && {kept}",
            f"a trial in a final state does not change any more: {', '.join(_KEPT)} stay; only final may be "
            "added",
            ".status",
        )
    ]


class OptimizationTrial(Document):
    """One candidate of a study: its settings, how they came about, and what was measured."""

    model_config = ConfigDict(json_schema_extra=_keep_final)

    api_version: Literal["paretune.dev/v1alpha1"] = Field(API_VERSION, description="API version.")
    kind: Literal["OptimizationTrial"] = Field("OptimizationTrial", description="Kind of the object.")
    metadata: Metadata = Field(description="Standard object metadata.")
    spec: TrialSpec = Field(
        description="What the trial tries. It never changes.",
        json_schema_extra={CRD: {RULES: [rule("self == oldSelf", "a trial's spec never changes")]}},
    )
    status: TrialStatus = Field(
        default_factory=TrialStatus,
        description="How the trial went.",
        json_schema_extra={CRD: {"default": {}}},  # so that the state shows before anything is written
    )

    @property
    def number(self) -> int:
        """Number of the trial; 0 is the baseline."""
        return self.spec.number

    @property
    def settings(self) -> Settings:
        """What is done to the model."""
        return self.spec.settings

    @property
    def final(self) -> bool:
        """The trial will not change any more, but for `status.final`."""
        return self.status.state in FINAL_STATES
