"""Studies of the cluster as tracking sees them."""

import logging
from collections.abc import Mapping
from pathlib import Path

from ..api import OptimizationStudy, OptimizationTrial
from ..cluster.config import OperatorConfig
from ..cluster.publishing import named
from ..search.front import FrontDocument
from ..tracking.backlog import Tracker
from ..tracking.view import StudyView

log = logging.getLogger(__name__)


class Tracked:
    """What the reconcile tells MLflow, through a tracker that never makes it wait.

    Args:
        config: names the servers and the operator's credentials for them.
    """

    def __init__(self, config: OperatorConfig) -> None:
        self._tracker = Tracker(
            {s.uri: Path(s.credentials_path) for s in config.tracking.servers if s.credentials_path}
        )

    def show(
        self,
        study: OptimizationStudy,
        trials: tuple[OptimizationTrial, ...],
        front: FrontDocument,
        state: str,
    ) -> bool:
        """The study as it is now; false: it could not be taken, and is to be shown again."""
        status = study.status
        if not status.tracking or status.intake is None:
            return True
        view = StudyView(
            study=named(study),
            uid=study.metadata.uid or "",
            seed=status.seed or 0,
            state=state,
            trials=trials,
            front=front,
            model=status.intake.model,
            notes=status.intake.notes,
        )
        return self._tracker.show(_key(study), view, status.tracking)

    def deleted(self, study: OptimizationStudy) -> None:
        """The study is gone; its runs stay, tagged."""
        self._tracker.deleted(_key(study), study.status.tracking, study.metadata.uid or "")

    def problem(self, study: OptimizationStudy) -> str:
        """Why not all of it is written; empty: it is, or will be soon."""
        return self._tracker.problem(_key(study))

    def settled(self, study: OptimizationStudy) -> bool:
        """All of it is written."""
        return self._tracker.settled(_key(study))

    def backlog(self) -> Mapping[str, int]:
        """Studies that are not fully written, by server."""
        return self._tracker.backlog()

    def close(self) -> None:
        """Write what can be written quickly, and end."""
        self._tracker.close(10.0)


def _key(study: OptimizationStudy) -> str:
    return f"{study.metadata.namespace}/{study.metadata.name}"
