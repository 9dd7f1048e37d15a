"""From a work directory to what tracking and the report read."""

from paretune_contract.summary import summarize

from ..local.workdir import StudyState, WorkDirectory
from ..search.front import FrontDocument
from ..tracking.view import ArtifactFolder, StudyView
from .errors import BadInput


def study_view(work: WorkDirectory, state: StudyState) -> StudyView:
    """The study as it stands on the disk.

    Raises:
        BadInput: when there is no front yet: the baseline is not measured.
    """
    intake = work.read_intake()
    if intake is None or intake.model is None or not work.front.exists():
        raise BadInput(f"{work.root}: the baseline (trial 0) is not measured yet; there is nothing to report")
    return StudyView(
        study=work.read_study(),
        uid=state.uid,
        seed=state.seed,
        state=state.state,
        trials=work.read_trials(),
        front=FrontDocument.model_validate_json(work.front.read_text()),
        model=summarize(intake).model,
        source=intake.model,
        artifacts=ArtifactFolder(work.root),
        notes=(*state.notices, *intake.notes),
    )
