"""What a pod is told: one document, in the environment of each of its containers.

A pod of a stage has three containers in a row, which share the folder WORK:

- `fetch` brings what the stage needs and writes the stage's request, with local paths, to REQUEST. It alone
  has the credentials of model and data.
- `stage` performs the request and writes RESULT. It loads what strangers made, and has no credentials.
- `upload` brings what came out to the store, and leaves the result as termination message.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .base import Document, TolerantDocument
from .dataset import Scaling, Split, Uri
from .settings import Settings
from .training import Training

TASK = "PARETUNE_TASK"
"""Environment variable that holds the task as JSON."""
WORK = "/work"
REQUEST, RESULT, LOG = "request.json", "result.json", "stage.log"
"""Files below WORK: the stage's request, its result, and what it printed."""
SECRETS = "/var/run/paretune/secrets"
"""Below it one folder for each mounted Secret, named by `Source.credentials` or `Store.credentials`."""
CLAIMS = "/mnt/claims"
"""Below it one folder for each mounted PersistentVolumeClaim."""
WORK_VARIABLE, SECRETS_VARIABLE, CLAIMS_VARIABLE = "PARETUNE_WORK", "PARETUNE_SECRETS", "PARETUNE_CLAIMS"
TERMINATION_LOG_VARIABLE = "PARETUNE_TERMINATION_LOG"
"""Environment variables that name other paths, for containers run as plain processes."""
UPLOAD_SECONDS_VARIABLE, UPLOAD_SECONDS = "PARETUNE_UPLOAD_SECONDS", 1800.0
"""Environment variable, and its default: how long `upload` keeps trying while the store does not answer."""
TRY_AGAIN, GIVE_UP = 75, 65
"""Exit codes of `fetch`, `upload`, `retain` and `purge`: EX_TEMPFAIL, EX_DATAERR."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class StoreKind(StrEnum):
    """Where artifacts are kept."""

    MLFLOW = "mlflow"  # the artifact proxy of a tracking server, over HTTP
    BUCKET = "bucket"  # s3:// or gs://
    FOLDER = "folder"  # a mounted claim


class Store(TolerantDocument):
    """The store of a study."""

    kind: StoreKind
    uri: str = Field(description="http(s):// address of MLflow, s3:// or gs:// prefix, or an absolute path.")
    credentials: str = Field("", description="Folder below SECRETS; empty: none.")
    study: str = Field(description="Prefix of this study's artifacts: NAMESPACE/UID.")
    steps: str = Field(description="Prefix of cached steps: NAMESPACE/steps, or one that an admin shares.")


class Source(TolerantDocument):
    """Something that `fetch` downloads with credentials of the study's owner."""

    uri: Uri = Field(description="s3, gs, https, models:/ or pvc URI.")
    format: str | None = None
    credentials: str = Field("", description="Folder below SECRETS; empty: none.")


class IntakeTask(Document):
    """Read model and data once, and put the normal form of both into the store."""

    model: Source
    dataset: dict[Split, Source]
    scaling: Scaling = Scaling()
    training: Training = Training()
    metrics: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    threads: int = Field(1, ge=1, description="Threads of the libraries that convert.")


class CompressTask(Document):
    """Make one candidate from what intake left in the store."""

    settings: Settings
    metrics: tuple[str, ...] = ()
    size_limits: dict[str, float] = Field(default_factory=dict)
    evaluation_seconds: float = 60.0
    reference: Sha256 | None = Field(None, description="The baseline's file, once there is one.")
    threads: int = 1
    intake: Sha256 | None = Field(
        None, description="sha256 of intake.json, as `IntakeReport.intake` has it; None: not checked."
    )


class EvaluateTask(Document):
    """Measure a finished file on `dataset.test`."""

    candidate: Sha256
    reference: Sha256
    metrics: tuple[str, ...]
    evaluation_seconds: float = 600.0
    threads: int = 1
    intake: Sha256 | None = Field(
        None, description="sha256 of intake.json, as `IntakeReport.intake` has it; None: not checked."
    )


class BenchmarkTask(Document):
    """Measure a finished file against its reference on this node."""

    candidate: Sha256
    reference: Sha256
    device: str = Field(description="Name that the metrics carry: latency/DEVICE.")
    runtime: str = "litert"
    threads: int = 1
    half_width: float = 0.03
    max_seconds: float = 20.0
    seed: int = 0


class RetainTask(Document):
    """Remove from the store the candidates that are not named."""

    candidates: tuple[Sha256, ...] = ()


class PurgeTask(Document):
    """Remove everything of a deleted study from the store."""


class Task(TolerantDocument):
    """One pod's work; exactly one of the parts is there, and its name is the stage's."""

    schema_version: int = 1
    store: Store
    name: str = Field(
        description="Name of the result in the store, equal for all attempts: `0007-benchmark-pi`. An "
        "attempt that finds the result of an earlier one there answers with it."
    )
    intake: IntakeTask | None = None
    compress: CompressTask | None = None
    evaluate: EvaluateTask | None = None
    benchmark: BenchmarkTask | None = None
    retain: RetainTask | None = None
    purge: PurgeTask | None = None

    @property
    def stage(self) -> str:
        """Name of the part that is there.

        Raises:
            ValueError: when there is none, or more than one.
        """
        parts = ("intake", "compress", "evaluate", "benchmark", "retain", "purge")
        found = [part for part in parts if getattr(self, part) is not None]
        if len(found) != 1:
            raise ValueError(
                f"a task has exactly one of {', '.join(parts)}; found {', '.join(found) or 'none'}"
            )
        return found[0]


# --- the store's layout: names relative to its uri ---------------------------------------------------------


def candidate_name(store: Store, sha256: str) -> str:
    """The finished file of a trial."""
    return f"{store.study}/candidates/{sha256}.tflite"


def result_name(store: Store, task: str) -> str:
    """The result of a task in full."""
    return f"{store.study}/results/{task}.json"


def log_name(store: Store, task: str) -> str:
    """The last 200 lines that a stage printed."""
    return f"{store.study}/logs/{task}.log"


def intake_name(store: Store, file: str = "intake.json") -> str:
    """What intake left: `intake.json`, `model.tflite`, `data/SPLIT/FILE.npy`."""
    return f"{store.study}/intake/{file}"


def step_name(store: Store, key: str) -> str:
    """A cached step, packed."""
    return f"{store.steps}/{key}.tar"


def wrote_step_name(store: Store, key: str = "") -> str:
    """An empty mark for each cached step that this study put into the store; purge goes by them."""
    return f"{store.study}/steps/{key}".rstrip("/")
