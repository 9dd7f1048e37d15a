"""The front as a table of plain values, in the form of MLflow's table artifacts."""

from typing import Any

from ..search.front import aliases
from .view import StudyView

Cell = str | int | float | None


def front_table(view: StudyView) -> dict[str, Any]:
    """`{"columns": [...], "data": [[...], ...]}`: the baseline's row first, then the front by trial number.

    Each metric has its value, the ends of its interval where it has one, and its ratio to the baseline.
    """
    baseline = view.front.baseline.metrics
    entries = sorted(view.front.front, key=lambda entry: entry.trial)
    names = list(dict.fromkeys([*baseline, *(name for entry in entries for name in entry.metrics)]))
    tests = list(dict.fromkeys(name for entry in entries for name in entry.test or {}))
    trials = {trial.number: trial for trial in view.trials}
    marks: dict[int, list[str]] = {}
    for alias, number in aliases(view.front).items():
        marks.setdefault(number, []).append(alias)
    spread = [
        n for n in names if any(n in e.metrics and e.metrics[n].low != e.metrics[n].high for e in entries)
    ]
    columns = ["trial", "settings", "marks"]
    for name in names:
        columns += [name, *([f"{name} low", f"{name} high"] if name in spread else []), f"{name} ratio"]
    columns += [f"test {name}" for name in tests] + ["bytes", "sha256"]

    def row(number: int, metrics: Any, test: Any, artifact: Any) -> list[Cell]:
        words = trials[number].settings.sentence() if number in trials else ""
        cells: list[Cell] = [number, words, ", ".join(marks.get(number, []))]
        for name in names:
            found = metrics.get(name)
            cells.append(found.value if found else None)
            if name in spread:
                cells += [found.low, found.high] if found else [None, None]
            base = baseline[name].value if name in baseline else 0.0
            cells.append(found.value / base if found and base else None)
        cells += [test[name].value if name in test else None for name in tests]
        return [*cells, artifact.bytes if artifact else None, artifact.sha256 if artifact else None]

    first = trials.get(view.front.baseline.trial)
    rows = []
    if view.front.baseline.trial not in {entry.trial for entry in entries}:
        artifact = first.status.artifact if first else None
        final = first.status.final if first else None
        rows.append(row(view.front.baseline.trial, baseline, final.test if final else {}, artifact))
    rows += [row(e.trial, e.metrics, e.test or {}, e.artifact) for e in entries]
    return {"columns": columns, "data": rows}
