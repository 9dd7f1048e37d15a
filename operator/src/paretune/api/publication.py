"""What the publish stage is told: which models of which study go to which MLflow server.

The document is in the environment of the Job's container, the records of the front and the baseline are
files of a mounted ConfigMap beside `front.json`.
"""

import gzip
import json
from collections.abc import Iterable

from paretune_contract.base import TolerantDocument
from paretune_contract.summary import ModelSummary
from paretune_contract.task import Store
from pydantic import BaseModel, Field

from .study import OptimizationStudy
from .trial import OptimizationTrial

PUBLISH = "PARETUNE_PUBLISH"
"""Environment variable that holds the publication as JSON."""
RECORDS_VARIABLE, RECORDS = "PARETUNE_RECORDS", "/etc/paretune/records"
"""Environment variable that names the folder of the records, and its default."""
FRONT = "front.json"
TRACKING_SECRET = "tracking"  # noqa: S105 - the name of a folder
"""Folder below `paretune_contract.task.SECRETS` with MLFLOW_TRACKING_USERNAME and the like, if any."""


class Publication(TolerantDocument):
    """One study's end, as the publish stage needs it."""

    schema_version: int = 1
    tracking_uri: str = Field(description="http(s):// address of the MLflow server.")
    experiment: str = Field("", description="MLflow experiment; empty: as the manifest says.")
    registered_model: str = Field(
        "", description="Name of the registered model; empty: as the manifest says."
    )
    study: OptimizationStudy = Field(description="The manifest as it was accepted.")
    uid: str = Field(description="uid of the study.")
    seed: int = Field(description="Seed of the search.")
    state: str = Field("Complete", description="How the study ended: any state but a running one.")
    model: ModelSummary = Field(description="The normalized model.")
    store: Store = Field(description="Where the candidates are.")


def record_files(front: BaseModel, trials: Iterable[OptimizationTrial]) -> dict[str, bytes]:
    """The content of the folder of records, for a ConfigMap's `binaryData`.

    Compressed, since a ConfigMap takes 1 MiB: a record has a few KiB, a sixth of it when packed.

    Args:
        front: the document of front.json.
        trials: at least the baseline and the members of the front.
    """
    files = {FRONT: front.model_dump_json(by_alias=True, exclude_none=True)}
    for trial in trials:
        plain = trial.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        document = {"apiVersion": trial.api_version, "kind": trial.kind, **plain}
        files[f"{trial.number:04d}.json"] = json.dumps(document, separators=(",", ":"))
    return {f"{name}.gz": gzip.compress(text.encode(), mtime=0) for name, text in files.items()}
