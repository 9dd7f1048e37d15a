"""What a study found, in one sentence."""

from paretune_contract.measurement import SIZE_METRICS

from ..search.front import aliases
from ..search.objectives import ResolvedObjective, resolve
from .view import StudyView
from .wording import label, show, versus


def headline(view: StudyView) -> str:
    """The knee of the front against the baseline: `30,112 B download size (0.29x), accuracy -0.40 points`.

    Without a front it says so, and what stood in the way is in the table of trials.
    """
    if not view.front.front:
        return "Nothing feasible found yet" if not view.ended else "Nothing feasible was found"
    knee = aliases(view.front).get("knee", view.front.front[0].trial)
    entry = next(e for e in view.front.front if e.trial == knee)
    baseline = view.front.baseline.metrics
    if knee == view.front.baseline.trial:
        return "No model of the front beats the untouched one so far"
    parts: list[str] = []
    for objective in sorted(resolve(view.study.spec), key=_sizes_first):
        name = objective.name
        if name not in entry.metrics:
            continue
        value, against = show(name, entry.metrics[name].value), versus(name, entry.metrics, baseline)
        if objective.minimized:
            parts.append(f"{value} {label(name)}" + (f" ({against})" if against else ""))
        else:
            parts.append(f"{label(name)} {against or value}")
    return ", ".join(parts)


def _sizes_first(objective: ResolvedObjective) -> int:
    return 0 if objective.metric in SIZE_METRICS else 1 if objective.minimized else 2
