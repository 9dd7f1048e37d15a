"""A study's view as one document, for a process that writes it to MLflow."""

from paretune_contract.base import TolerantDocument
from paretune_contract.model import ModelInfo
from paretune_contract.summary import ModelSummary

from ..api import OptimizationStudy, OptimizationTrial
from ..api.study import StudyStatus
from ..search.front import FrontDocument
from .view import StudyView


class ViewDocument(TolerantDocument):
    """Everything of a view but the files."""

    study: OptimizationStudy
    uid: str
    seed: int
    state: str
    trials: tuple[OptimizationTrial, ...]
    front: FrontDocument
    model: ModelSummary
    source: ModelInfo | None = None
    notes: tuple[str, ...] = ()


def to_json(view: StudyView) -> bytes:
    """The view as JSON, without the status of the study's object, which repeats what the records say."""
    document = ViewDocument(
        study=view.study.model_copy(update={"status": StudyStatus()}),
        uid=view.uid,
        seed=view.seed,
        state=view.state,
        trials=view.trials,
        front=view.front,
        model=view.model,
        source=view.source,
        notes=view.notes,
    )
    return document.model_dump_json(by_alias=True, exclude_defaults=True).encode()


def from_json(data: bytes) -> StudyView:
    """The inverse of `to_json`.

    Raises:
        pydantic.ValidationError: when this is no such document.
    """
    document = ViewDocument.model_validate_json(data)
    return StudyView(**{name: getattr(document, name) for name in ViewDocument.model_fields})
