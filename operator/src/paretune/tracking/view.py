"""What tracking reads: a study as it stood at one moment, with everything a picture or a run is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from paretune_contract.model import ModelInfo
from paretune_contract.summary import ModelSummary

from ..api import OptimizationStudy, OptimizationTrial
from ..search.front import FrontDocument, front_document
from ..search.objectives import resolve

ACTIVE_STATES = frozenset({"", "Pending", "Running", "Suspended", "Interrupted"})
"""States of a study that may still find something; every other state is an end."""


class Artifacts(Protocol):
    """The files of a study, for those who have them at hand."""

    def candidate(self, sha256: str) -> Path:
        """The file of a candidate; a model off the front may have been removed."""
        ...

    def logs(self, number: int) -> Sequence[Path]:
        """What the stages of a trial printed, a file for each."""
        ...


@dataclass(frozen=True)
class ArtifactFolder:
    """Files in a work directory: candidates/<sha256>.tflite and logs/NNNN-*.log."""

    root: Path

    def candidate(self, sha256: str) -> Path:
        """The file of a candidate; it may have been removed."""
        return self.root / "candidates" / f"{sha256}.tflite"

    def logs(self, number: int) -> Sequence[Path]:
        """Logs of a trial, in name order."""
        return sorted((self.root / "logs").glob(f"{number:04d}-*.log"))


@dataclass(frozen=True)
class StudyView:
    """A study at one moment.

    Args:
        study: the manifest as it was accepted.
        uid: identity of this study; two studies of one name have two of them.
        seed: the seed that the search uses.
        state: one of ACTIVE_STATES, or how the study ended, such as `Complete`.
        trials: the records, in number order.
        front: the document of front.json, made from the same records.
        model: the normalized model, as intake found it.
        source: the same with every layer; None where only the summary is known.
        artifacts: candidates and logs; None where they are out of reach, as for the operator.
        notes: sentences for people, such as an axis that was added or a pool that was left out.
    """

    study: OptimizationStudy
    uid: str
    seed: int
    state: str
    trials: tuple[OptimizationTrial, ...]
    front: FrontDocument
    model: ModelSummary
    source: ModelInfo | None = None
    artifacts: Artifacts | None = field(default=None, compare=False)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.study.metadata.name

    @property
    def model_uri(self) -> str:
        """Where the model came from; it may hold a secret."""
        return self.source.uri if self.source else self.study.spec.model.uri

    @property
    def ended(self) -> bool:
        """Nothing will be added to this study unless its budget is raised."""
        return self.state not in ACTIVE_STATES

    def finals(self) -> Iterator[OptimizationTrial]:
        """Trials whose records will not change any more, but for `status.final`."""
        return (trial for trial in self.trials if trial.final)


def view_of_records(
    study: OptimizationStudy,
    trials: Sequence[OptimizationTrial],
    *,
    uid: str,
    seed: int,
    state: str,
    model: ModelSummary,
    notes: Sequence[str] = (),
) -> StudyView | None:
    """The view of a study of which there are only its records; None while the baseline is not finished.

    Args:
        study: the manifest as it was accepted.
        trials: the records, in any order.
        uid: identity of this study.
        seed: the seed that the search uses.
        state: one of ACTIVE_STATES, or how the study ended.
        model: what intake found of the model.
        notes: sentences for people.
    """
    ordered = tuple(sorted(trials, key=lambda trial: trial.number))
    if not ordered or ordered[0].number != 0 or not ordered[0].final:
        return None
    return StudyView(
        study=study,
        uid=uid,
        seed=seed,
        state=state,
        trials=ordered,
        front=front_document(study, uid, seed, resolve(study.spec), ordered),
        model=model,
        notes=tuple(notes),
    )
