"""The description of a study's run, as MLflow's page shows it: a sentence, the picture and the table."""

from ..search.front import aliases
from ..search.objectives import resolve
from .headline import headline
from .records import TAG_LIMIT, escape_markdown
from .view import StudyView
from .wording import label, show, versus

RUN_ID = "{run_id}"
"""Stands for the run's own id, which is not known before the run exists."""
_RESERVED = 400  # characters kept free for the last lines


def study_note(view: StudyView) -> str:
    """Markdown of at most TAG_LIMIT characters; rows that do not fit are counted.

    The picture is the run's own artifact by the address that the UI itself uses: MLflow's pages drop
    pictures that are embedded in the text.
    """
    head = "\n\n".join(
        [
            f"**{escape_markdown(headline(view))}**",
            f"![The front](get-artifact?path=front-small.png&run_uuid={RUN_ID})",
        ]
    )
    names = [objective.name for objective in resolve(view.study.spec)]
    columns = ["Trial", "Settings", *(label(name) for name in names), ""]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    left = TAG_LIMIT - _RESERVED - len(head) - sum(len(line) + 1 for line in lines)
    rows = _rows(view, names)
    shown = 0
    for row in rows:
        left -= len(row) + 1
        if left < 0:
            break
        lines.append(row)
        shown += 1
    tail = [] if shown == len(rows) else [f"{len(rows) - shown} more rows are in front-table.json."]
    counts = view.front.counts
    tail.append(
        f"{len(view.trials)} trials: {counts.complete} complete, {counts.infeasible} infeasible, "
        f"{counts.pruned} pruned, {counts.failed} failed. Hypervolume {view.front.hypervolume.value:.4f}. "
        "The interactive front is the artifact front.html, the whole story report.html."
    )
    return "\n\n".join([head, "\n".join(lines), *tail])


def _rows(view: StudyView, names: list[str]) -> list[str]:
    baseline = view.front.baseline.metrics
    trials = {trial.number: trial for trial in view.trials}
    marks: dict[int, list[str]] = {}
    for alias, number in aliases(view.front).items():
        marks.setdefault(number, []).append(alias)
    rows = [
        _row(
            "baseline", "untouched", [show(n, baseline[n].value) if n in baseline else "" for n in names], ""
        )
    ]
    for entry in view.front.front:
        cells = []
        for name in names:
            if name not in entry.metrics:
                cells.append("")
                continue
            value = entry.metrics[name].value
            against = versus(name, entry.metrics, baseline)
            cells.append(show(name, value) + (f" ({against})" if against else ""))
        words = escape_markdown(trials[entry.trial].settings.sentence())
        rows.append(_row(str(entry.trial), words, cells, ", ".join(marks.get(entry.trial, []))))
    return rows


def _row(trial: str, settings: str, cells: list[str], marks: str) -> str:
    # MLflow's tables have no padding of their own.
    return "| " + " | ".join(f"{cell}&emsp;" for cell in [trial, settings, *cells, marks]) + " |"
