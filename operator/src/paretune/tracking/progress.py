"""How the search progressed: the hypervolume after each trial."""

from functools import lru_cache

from ..search.objectives import resolve
from ..search.pareto import curve
from .view import StudyView

Curve = tuple[tuple[int, float], ...]


def hypervolume_curve(view: StudyView) -> Curve:
    """(trial number, hypervolume) after each trial up to the first that is not final.

    What the search saw of a final trial never changes, so the curve only grows, and what has been logged of
    it stays right.
    """
    numbers: list[int] = []
    for trial in view.trials:
        if not trial.final:
            break
        numbers.append(trial.number)
    return _computed(_Key(view, tuple(numbers)))


class _Key:
    """A view that equals another of the same study with the same final trials: exact volumes take a while."""

    def __init__(self, view: StudyView, numbers: tuple[int, ...]) -> None:
        self.view, self.numbers = view, numbers
        self._content = (view.uid, str(view.study.spec.objectives), str(view.folder), numbers)

    def __hash__(self) -> int:
        return hash(self._content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._content == other._content


@lru_cache(maxsize=4)
def _computed(key: _Key) -> Curve:
    trials = key.view.trials[: len(key.numbers)]
    return tuple(curve(resolve(key.view.study.spec), trials))
