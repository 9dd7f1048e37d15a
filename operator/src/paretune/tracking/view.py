"""What tracking reads: a study as it stood at one moment, with everything a picture or a run is made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from paretune_contract.model import ModelInfo

from ..api import OptimizationStudy, OptimizationTrial
from ..search.front import FrontDocument

ACTIVE_STATES = frozenset({"", "Pending", "Running", "Suspended", "Interrupted"})
"""States of a study that may still find something; every other state is an end."""


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
        folder: the work directory, with candidates/<sha256>.tflite and logs/NNNN-*.log.
        notes: sentences for people, such as an axis that was added or a pool that was left out.
    """

    study: OptimizationStudy
    uid: str
    seed: int
    state: str
    trials: tuple[OptimizationTrial, ...]
    front: FrontDocument
    model: ModelInfo
    folder: Path
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.study.metadata.name

    @property
    def ended(self) -> bool:
        """Nothing will be added to this study unless its budget is raised."""
        return self.state not in ACTIVE_STATES

    def finals(self) -> Iterator[OptimizationTrial]:
        """Trials whose records will not change any more, but for `status.final`."""
        return (trial for trial in self.trials if trial.final)

    def candidate(self, sha256: str) -> Path:
        """The file of a candidate; a model off the front may have been removed."""
        return self.folder / "candidates" / f"{sha256}.tflite"
