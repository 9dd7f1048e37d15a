"""How the search progressed: the hypervolume after each trial."""

from functools import lru_cache
from typing import Any

from ..api import OptimizationTrial
from ..search.objectives import resolve
from ..search.pareto import curve
from ..search.records import searched
from .view import StudyView

Curve = tuple[tuple[int, float], ...]


def hypervolume_curve(view: StudyView) -> Curve:
    """(trial number, hypervolume) after each trial up to the first that is not final.

    What the search saw of a final trial never changes, so the curve only grows, and what has been logged of
    it stays right.
    """
    count = next((i for i, trial in enumerate(view.trials) if not trial.final), len(view.trials))
    return _computed(_Key(view, count))


class _Key:
    """A view that equals another whose final trials say the same: exact volumes take a while."""

    def __init__(self, view: StudyView, count: int) -> None:
        self.view, self.count = view, count
        self._content = (view.uid, str(view.study.spec.objectives), *map(_seen, view.trials[:count]))

    def __hash__(self) -> int:
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._content == other._content


def _seen(trial: OptimizationTrial) -> tuple[Any, ...]:
    metrics = tuple((name, found.value) for name, found in searched(trial).items())
    return trial.number, trial.status.state, trial.spec.ask.origin, metrics


@lru_cache(maxsize=4)
def _computed(key: _Key) -> Curve:
    trials = key.view.trials[: key.count]
    return tuple(curve(resolve(key.view.study.spec), trials))
