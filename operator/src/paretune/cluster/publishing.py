"""What the publish stage is told. Pure."""

import base64
from collections.abc import Sequence

from paretune_contract.task import Store

from ..api import OptimizationStudy, OptimizationTrial
from ..api.publication import Publication, record_files
from ..api.study import StudyStatus
from ..search.front import FrontDocument


def named(study: OptimizationStudy) -> OptimizationStudy:
    """The study with the names that it has in MLflow: `NAMESPACE.NAME` where the manifest gives none.

    One server may serve many namespaces, and studies of one name in two of them have nothing in common.
    """
    tracking, own = study.spec.tracking, f"{study.metadata.namespace}.{study.metadata.name}"[:250]
    names = {
        "experiment": tracking.experiment or own,
        "registered_model": tracking.registered_model or own,
    }
    spec = study.spec.model_copy(update={"tracking": tracking.model_copy(update=names)})
    return study.model_copy(update={"spec": spec})


def document(study: OptimizationStudy, store: Store) -> str:
    """The stage's document as JSON.

    Args:
        study: as accepted, with its status.
        store: where its candidates are.
    """
    status = study.status
    assert status.intake is not None
    # kubectl's annotation alone repeats the whole manifest, and a variable holds 128 KiB.
    metadata = study.metadata.model_copy(update={"annotations": {}})
    publication = Publication(
        tracking_uri=status.tracking,
        study=named(study).model_copy(update={"metadata": metadata, "status": StudyStatus()}),
        uid=study.metadata.uid or "",
        seed=status.seed or 0,
        model=status.intake.model,
        store=store,
    )
    return publication.model_dump_json(by_alias=True, exclude_defaults=True)


def records(front: FrontDocument, trials: Sequence[OptimizationTrial]) -> dict[str, str]:
    """`binaryData` of the records' ConfigMap."""
    return {name: base64.b64encode(content).decode() for name, content in record_files(front, trials).items()}
