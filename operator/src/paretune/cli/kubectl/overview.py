"""Tables of studies, and one study on a screen. Pure: from what was read to what is shown."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...api import OptimizationTrial, State
from ...cluster.api import Json
from ...search.objectives import resolve
from ..console import front_columns, front_table
from .study import ReadStudy
from .words import age, conditions, phase, short, why

_COLORS = {
    "Complete": "green",
    "Running": "cyan",
    "Failed": "red",
    "NotReady": "red",
    "Suspended": "yellow",
    "Deleting": "yellow",
}


def studies_table(studies: Sequence[Json], now: datetime, *, namespaces: bool, wide: bool) -> Table:
    """One line a study."""
    table = Table(box=None, header_style="", pad_edge=False, show_edge=False)
    heads = ["NAME", "PHASE", "PROGRESS", "FRONT", "BEST", "AGE"]
    if wide:
        heads += ["RUNNING", "FAILED", "HYPERVOLUME", "REASON"]
    for head in (["NAMESPACE"] if namespaces else []) + heads:
        table.add_column(head, overflow="fold", no_wrap=head in ("NAME", "PHASE", "AGE", "PROGRESS"))
    for study in studies:
        metadata, status = study["metadata"], study.get("status", {})
        trials = status.get("trials", {})
        cells = [
            Text(metadata["name"]),
            _phase(study),
            Text(status.get("progress", "")),
            Text(str(len(status.get("front", ()))) if status.get("front") else ""),
            Text(status.get("best", "")),
            Text(age(metadata.get("creationTimestamp", ""), now)),
        ]
        if wide:
            volume = status.get("hypervolume")
            cells += [
                Text(str(trials.get("running", 0))),
                Text(str(trials.get("failed", 0))),
                Text("" if volume is None else f"{volume:.4f}"),
                Text(why(study)),
            ]
        table.add_row(*([Text(metadata["namespace"])] if namespaces else []), *cells)
    return table


def overview(
    read: ReadStudy,
    now: datetime,
    *,
    wide: bool = False,
    pods: Sequence[Json] = (),
    live: str | None = None,
) -> Group:
    """One study: phase, conditions, budget, what runs, and the front.

    Args:
        read: the study and its records.
        now: for ages.
        wide: every metric of the front, and where running trials are.
        pods: of the study, for `wide`.
        live: a line for a picture that is drawn again and again and has to fit on a screen: conditions are
            shown only when something is the matter. None: all is shown.
    """
    return Group(*_parts(read, now, wide, pods, live))


def _parts(
    read: ReadStudy, now: datetime, wide: bool, pods: Sequence[Json], live: str | None
) -> Iterator[RenderableType]:
    yield _facts(read, now)
    if live:
        yield Text(live, "dim")
    quiet = live is not None and phase(read.raw) == "Running"
    if not quiet and (found := conditions(read.raw)):
        yield Text()
        table = Table(title="Conditions", title_justify="left", header_style="bold")
        for head in ("condition", "status", "reason", "message", "since"):
            table.add_column(head, overflow="fold")
        for kind in found.values():
            since = age(kind.get("lastTransitionTime", ""), now)
            table.add_row(
                kind["type"], kind["status"], Text(kind["reason"]), Text(kind.get("message", "")), since
            )
        yield table
    running = [trial for trial in read.trials if not trial.final]
    if running:
        yield Text()
        yield _running(running, now, wide, pods)
    front = read.front
    if front is not None:
        names = [o.name for o in resolve(read.study.spec)]
        yield Text()
        yield front_table(front, front_columns(front, names) if wide else names)


def _facts(read: ReadStudy, now: datetime) -> Table:
    spec, status = read.study.spec, read.study.status
    budget = spec.budget
    ended = sum(t.final for t in read.trials)
    failed = sum(t.status.state is State.FAILED for t in read.trials)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")

    def row(name: str, text: Text | str) -> None:
        grid.add_row(name, text if isinstance(text, Text) else Text(text))

    reason = why(read.raw)
    row("Study", f"{read.raw['metadata']['namespace']}/{read.name}")
    row("Phase", _phase(read.raw) + Text(f" ({reason})" if reason and reason != phase(read.raw) else ""))
    row("Trials", f"{ended} of {budget.trials}, {budget.parallelism} at a time" + _ends(read.trials))
    if budget.seconds is not None:
        row("Time", f"{short(status.active_seconds)} of {short(budget.seconds)}")
    elif status.active_seconds:
        row("Time", short(status.active_seconds))
    row("Failures", f"{failed}, at most {budget.max_failures}")
    if status.hypervolume is not None:
        row("Hypervolume", f"{status.hypervolume:.4f}")
    if status.store is not None and status.store.failures:
        row(
            "Store",
            Text(f"does not answer for {age(status.store.since, now)}: {status.store.message}", "red"),
        )
    if status.tracking:
        row("MLflow", status.tracking)
    row("Age", age(read.raw["metadata"].get("creationTimestamp", ""), now))
    return grid


def _ends(trials: Sequence[OptimizationTrial]) -> str:
    counts = {
        state: sum(t.status.state is state for t in trials)
        for state in (State.COMPLETE, State.INFEASIBLE, State.PRUNED, State.FAILED)
    }
    words = ", ".join(f"{count} {state.value.lower()}" for state, count in counts.items() if count)
    return f" ({words})" if words else ""


def _running(trials: Sequence[OptimizationTrial], now: datetime, wide: bool, pods: Sequence[Json]) -> Table:
    table = Table(title="Running", title_justify="left", header_style="bold")
    table.add_column("trial", justify="right")
    for head in ("state", "settings", "for", *(("pod", "node") if wide else ()), "reason"):
        table.add_column(head, overflow="fold")
    for trial in trials:
        status = trial.status
        reason = ": ".join(part for part in (status.reason, status.message) if part)
        cells: list[Text] = [
            Text(str(trial.number)),
            Text(status.state.value),
            Text(trial.settings.sentence()),
            Text(age(status.started, now)),
        ]
        if wide:
            there = [
                p for p in pods if p["metadata"]["labels"].get("paretune.dev/trial") == str(trial.number)
            ]
            pod = there[-1] if there else None
            cells += [
                Text(pod["metadata"]["name"] if pod else ""),
                Text((pod["spec"].get("nodeName") or "") if pod else ""),
            ]
        table.add_row(*cells, Text(reason))
    return table


def _phase(study: Json) -> Text:
    word = phase(study)
    return Text(word, _COLORS.get(word, ""))


def seconds_left(read: ReadStudy) -> str:
    """A guess from the pace so far: `about 12m left`; empty before there is a pace."""
    ended = sum(t.final for t in read.trials)
    active, budget = read.study.status.active_seconds, read.study.spec.budget
    if ended < 2 or not active or ended >= budget.trials:
        return ""
    return f"about {short(active / ended * (budget.trials - ended))} left"
