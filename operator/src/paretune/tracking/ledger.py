"""What has been logged to which store: a file in the work directory that spares asking MLflow each time.

MLflow's tags say the same, so a lost ledger costs one search and duplicates nothing.
"""

from pathlib import Path

from paretune_contract.base import TolerantDocument
from paretune_store.files import atomic_write
from pydantic import Field, ValidationError


class LoggedRun(TolerantDocument):
    """A run, and the digest of the record that it shows; empty while it is not fully written."""

    run_id: str
    digest: str = ""


class LoggedModel(TolerantDocument):
    """A model and its registered version; both may be half done."""

    model_id: str = ""
    ready: bool = Field(False, description="The files are there.")
    version: str = ""
    digest: str = ""


class Logged(TolerantDocument):
    """Everything of one study that one store has."""

    uid: str = ""
    experiment_id: str = ""
    study: LoggedRun | None = None
    trials: dict[int, LoggedRun] = Field(default_factory=dict)
    hypervolume: int = Field(0, description="Points of the curve.")
    files: dict[str, str] = Field(default_factory=dict, description="Artifact name to digest of its content.")
    models: dict[str, LoggedModel] = Field(default_factory=dict, description="By the file's sha256.")
    aliases: str = Field("", description="Digest of the aliases that were set last.")


class Ledger(TolerantDocument):
    """By store and experiment, without secrets."""

    schema_version: int = 1
    stores: dict[str, Logged] = Field(default_factory=dict)


def read_ledger(path: Path) -> Ledger:
    """The ledger; an empty one where the file is missing or damaged, since MLflow knows the same."""
    try:
        return Ledger.model_validate_json(path.read_text())
    except (OSError, ValidationError, UnicodeDecodeError):
        return Ledger()


def write_ledger(path: Path, store: str, logged: Logged) -> None:
    """Replace one store's entry."""
    ledger = read_ledger(path)
    stores = {**ledger.stores, store: logged}
    content = Ledger(stores=stores).model_dump_json(by_alias=True, indent=1)
    atomic_write(path, content)
