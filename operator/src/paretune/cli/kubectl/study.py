"""A study and its records, as they were read from a cluster."""

import functools
from dataclasses import dataclass

from ...api import OptimizationStudy, OptimizationTrial
from ...cluster.api import Json
from ...cluster.reading import Cluster, parsed_study, parsed_trials
from ...search.front import FrontDocument, aliases, front_document
from ...search.objectives import resolve
from ..errors import BadInput


@dataclass(frozen=True)
class ReadStudy:
    """A study at one moment.

    Args:
        raw: the object as the API server has it.
        study: the same as a document.
        trials: its records, in number order.
    """

    raw: Json
    study: OptimizationStudy
    trials: tuple[OptimizationTrial, ...]

    @property
    def name(self) -> str:
        return self.study.metadata.name

    @functools.cached_property
    def front(self) -> FrontDocument | None:
        """The front as the records tell it; None until the baseline is measured."""
        if not self.trials or not self.trials[0].final:
            return None
        return front_document(
            self.study,
            self.study.metadata.uid or "",
            self.study.status.seed or 0,
            resolve(self.study.spec),
            self.trials,
        )

    def need_front(self) -> FrontDocument:
        """The front.

        Raises:
            BadInput: when there is none yet.
        """
        front = self.front
        if front is None:
            raise BadInput(
                f"study {self.name}: the baseline (trial 0) is not measured yet, so there is no front; "
                f"`kubectl paretune status {self.name}` shows how far it is"
            )
        return front

    def trial(self, text: str) -> OptimizationTrial:
        """A record, by `7`, `0007`, `NAME-0007`, `knee` or `best-METRIC`.

        Raises:
            BadInput: when there is no such trial.
        """
        by_name = {t.metadata.name: t for t in self.trials}
        if text in by_name:
            return by_name[text]
        if text.isdecimal():
            if int(text) < len(self.trials):
                return self.trials[int(text)]
            there = f"it has trials 0 to {len(self.trials) - 1}" if self.trials else "it has no trials yet"
            raise BadInput(f"trial {text}: not in study {self.name}; {there}")
        front = self.front
        named = aliases(front) if front else {}
        if text in named:
            return self.trials[named[text]]
        known = ", ".join(named) or "knee, best-METRIC (once there is a front)"
        raise BadInput(f"trial {text}: neither a number nor a trial's name, nor one of {known}")


def read_study(cluster: Cluster, name: str) -> ReadStudy:
    """A study and its records.

    Raises:
        ReadingError: when they cannot be read.
    """
    raw = cluster.study(name)
    return ReadStudy(raw=raw, study=parsed_study(raw), trials=parsed_trials(cluster.trials(raw)))
