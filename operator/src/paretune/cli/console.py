"""What a person sees while a study runs, and at its end."""

import sys
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from paretune_contract.measurement import DEVICE_METRICS, LATENCY_RATIO, SIZE_METRICS, Measurement
from paretune_contract.quantity import show_seconds
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..api import OptimizationTrial, State
from ..local.engine import Snapshot
from ..search.front import FrontDocument, FrontMember

_MARKS = {State.COMPLETE: "✓", State.INFEASIBLE: "∅", State.PRUNED: "–", State.FAILED: "✗"}


def base_metric(name: str) -> str:
    """`latency/cpu` is `latency`."""
    return name.split("/", 1)[0]


def show_value(name: str, value: float) -> str:
    """A metric's value with its unit, as people read it."""
    metric = base_metric(name)
    if metric in SIZE_METRICS or metric == "peakMemory":
        return f"{value:,.0f} B"
    if metric == LATENCY_RATIO:
        return f"{value:.3f}x"
    if metric in DEVICE_METRICS:
        return show_seconds(value)
    if metric in ("accuracy", "agreement"):
        return f"{value:.2%}"
    return f"{value:.4g}"


def show_with_ratio(name: str, measured: Measurement, baseline: Measurement | None) -> str:
    """`69,400 B (0.24x)`; quality metrics show their difference instead."""
    text = show_value(name, measured.value)
    if baseline is None or baseline.value == 0:
        return text
    metric = base_metric(name)
    if metric in ("accuracy", "agreement"):
        return f"{text} ({(measured.value - baseline.value) * 100:+.2f})"
    if metric == LATENCY_RATIO:
        return text
    return f"{text} ({measured.value / baseline.value:.2f}x)"


def front_columns(front: FrontDocument, objectives: Sequence[str]) -> list[str]:
    """Objectives first, then sizes and latencies that the study measured beside them."""
    more = [n for n in front.baseline.metrics if n not in objectives and base_metric(n) != "peakMemory"]
    return [*objectives, *more]


def front_table(front: FrontDocument, columns: Iterable[str]) -> Table:
    """The front, best download first as the document orders it."""
    names = list(columns)
    tested = sorted({name for m in front.front for name in (m.test or {})})
    table = Table(title=f"Pareto front of {front.study.name}", title_justify="left", header_style="bold")
    table.add_column("trial", justify="right")
    table.add_column("settings")
    for name in (*names, *(f"{n} (test)" for n in tested)):
        table.add_column(name, justify="right")
    baseline = f"{front.baseline.trial} (baseline)"
    rows: list[tuple[str, FrontMember]] = [(str(m.trial), m) for m in front.front]
    rows = [(baseline if m.trial == front.baseline.trial else label, m) for label, m in rows]
    if baseline not in [label for label, _ in rows]:
        rows.append((baseline, front.baseline))
    for label, member in rows:
        cells = [
            show_with_ratio(n, member.metrics[n], front.baseline.metrics.get(n))
            if n in member.metrics
            else "-"
            for n in names
        ]
        test = member.test or {}
        cells += [
            show_with_ratio(n, test[n], (front.baseline.test or {}).get(n)) if n in test else "-"
            for n in tested
        ]
        table.add_row(label, member.settings.sentence(), *cells, style="dim" if "baseline" in label else None)
    return table


def trial_line(trial: OptimizationTrial) -> str:
    """One finished trial in one line."""
    status = trial.status
    numbers = ", ".join(
        f"{name} {show_value(name, m.value)}"
        for name, m in status.metrics.items()
        if base_metric(name) not in (LATENCY_RATIO, "peakMemory", "modelSize")
    )
    tail = (
        f": {status.message}" if status.state in (State.FAILED, State.INFEASIBLE) and status.message else ""
    )
    mark, words = _MARKS[status.state], trial.settings.sentence()
    return f"{trial.number:4d} {mark} {words}  [{numbers}] {status.state.value}{tail}"


def time_left(snapshot: Snapshot) -> float | None:
    """Seconds until the search ends, from the pace so far; None before the second trial is done."""
    done = sum(t.final for t in snapshot.trials)
    if done < 2:
        return None
    return snapshot.elapsed / done * max(0, snapshot.total - done)


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class Progress:
    """Live progress on a terminal; one line per finished trial elsewhere. Writes to standard error."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._told: set[int] = set()
        self._phase = ""
        self._live = (
            Live(console=self.console, refresh_per_second=4, transient=True) if self._interactive else None
        )

    @property
    def _interactive(self) -> bool:
        return self.console.is_terminal and not self.console.quiet

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, sentence: str) -> None:
        self.console.print(Text(sentence), soft_wrap=True)

    def working(self, what: str, seconds: float) -> None:
        """What is being done and for how long; a terminal shows it."""
        if self._live:
            self._live.update(Text(f"{what}, {clock(seconds)} so far"))

    def already(self, trials: Iterable[OptimizationTrial]) -> None:
        """Trials of an earlier run are not told again."""
        self._told |= {t.number for t in trials if t.final}

    def show(self, snapshot: Snapshot) -> None:
        for trial in snapshot.trials:
            if trial.final and trial.number not in self._told:
                self._told.add(trial.number)
                self.console.print(Text(trial_line(trial)), soft_wrap=True)
        if snapshot.phase != self._phase:
            self._phase = snapshot.phase
            if snapshot.phase == "Measuring the front":
                self.console.print(Text("Measuring the front again, in fresh rounds"))
        if self._live:
            self._live.update(_panel(snapshot))


def _panel(snapshot: Snapshot) -> Group:
    done = sum(t.final for t in snapshot.trials)
    left = time_left(snapshot)
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        f"[bold]{snapshot.name}[/]",
        ProgressBar(total=snapshot.total, completed=done, width=30),
        f"{done}/{snapshot.total} trials",
        f"front {len(snapshot.front.front) if snapshot.front else 0}",
        f"{clock(snapshot.elapsed)} so far",
        "" if left is None or snapshot.phase != "Searching" else f"about {clock(left)} left",
    )
    running = Table.grid(padding=(0, 1))
    for work in sorted(snapshot.running):
        where = f" on {work.pool}" if work.pool else ""
        settings = snapshot.trials[work.number].settings.sentence()
        running.add_row(f"  {work.number:4d}", f"{work.stage}{where}", Text(settings, style="dim"))
    return Group(grid, running)


def result_console() -> Console:
    """Standard output, wide enough for a table when it is no terminal."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


Say = Callable[[str], None]
