"""The artifact store of a study, with the credentials of whoever asks."""

from paretune_contract.failure import StageError
from paretune_contract.task import Store, StoreKind
from paretune_store.errors import Refused
from paretune_store.objects import ObjectStore
from paretune_store.retries import Patience
from paretune_store.stores import open_store

from ...cluster.tasks import claim_of, store_of
from ..errors import BadInput, Failed
from .study import ReadStudy

TRACKING = "MLFLOW_TRACKING_URI"


def store_of_study(read: ReadStudy, tracking: str | None) -> Store:
    """Where the study's artifacts are.

    Args:
        read: the study.
        tracking: address of its MLflow server as it is reached from here; None: the one that the study has.

    Raises:
        BadInput: when the study has no store that can be named.
    """
    study = read.study
    server = tracking or study.status.tracking or study.spec.tracking.uri
    store = store_of(study, server, share_steps=False).model_copy(update={"credentials": ""})
    if store.kind is StoreKind.MLFLOW and not store.uri:
        raise BadInput(
            f"study {read.name}: its artifacts are at an MLflow server whose address is not known here; give "
            "--tracking-uri http://HOST:PORT"
        )
    return store


def opened(read: ReadStudy, store: Store, patience: Patience) -> ObjectStore:
    """The store, opened; nobody is asked yet.

    Raises:
        BadInput: when it is a volume inside the cluster.
        Failed: when its address or the credentials of the environment are wrong.
    """
    claim = claim_of(read.study.spec.artifacts.uri)
    if claim is not None:
        raise BadInput(
            f"study {read.name}: its artifacts are on the volume {read.study.spec.artifacts.uri}, which only "
            "pods can reach"
        )
    try:
        return open_store(store, patience=patience)
    except Refused as error:
        raise Failed(str(error)) from error


def away(error: StageError, read: ReadStudy, store: Store, trial: str) -> Failed:
    """The sentence for a store that does not answer, with the way to it where it is the cluster's own."""
    lines = [str(error)]
    if store.kind is StoreKind.MLFLOW:
        namespace = read.raw["metadata"]["namespace"]
        service, where, port = _service(store.uri, namespace)
        lines += [
            "If that is an address inside the cluster, open a way to it in another terminal, and name it:",
            f"  kubectl port-forward -n {where} service/{service} 5000:{port}",
            f"  kubectl paretune fetch -n {namespace} {read.name} {trial} --tracking-uri http://localhost:5000",
        ]
    return Failed(lines)


def _service(uri: str, namespace: str) -> tuple[str, str, int]:
    """Service, namespace and port of `http://mlflow.tools.svc.cluster.local:5000`."""
    from urllib.parse import urlsplit

    parts = urlsplit(uri)
    labels = (parts.hostname or "mlflow").split(".")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return labels[0], labels[1] if len(labels) > 1 else namespace, port
