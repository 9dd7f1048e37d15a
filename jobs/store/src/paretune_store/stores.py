"""From a task's store to the implementation of the port."""

from pathlib import Path

from paretune_contract.task import SECRETS, Store, StoreKind

from .bucket_store import BucketStore
from .credentials import credentials_of
from .folder_store import FolderStore
from .mlflow_store import MlflowStore
from .objects import ObjectStore
from .retries import PATIENCE, Patience


def open_store(store: Store, secrets: Path = Path(SECRETS), *, patience: Patience = PATIENCE) -> ObjectStore:
    """The store of a study. Nobody is asked yet.

    Args:
        store: kind, URI, and the Secret with its credentials, if any; without one, the environment has them.
        secrets: where Secrets are mounted.
        patience: how long it may be away before it counts as unavailable.

    Raises:
        Refused: the URI is none of this kind, or credentials are missing.
    """
    credentials = credentials_of(store.credentials, secrets)
    match store.kind:
        case StoreKind.FOLDER:
            return FolderStore(Path(store.uri), patience)
        case StoreKind.BUCKET:
            return BucketStore(store.uri, credentials, patience)
        case StoreKind.MLFLOW:
            return MlflowStore(store.uri, credentials, patience)
