"""`paretune explain`: what happened to a trial."""

import json
from pathlib import Path

import click
import yaml
from rich.console import Console
from rich.table import Table

from ..api import OptimizationTrial, State
from ..local.workdir import WorkDirectory
from .console import result_console, show_value
from .workdir_option import existing, number_of, workdir_option


@click.command()
@click.argument("trial")
@workdir_option
@click.option("--lines", default=30, show_default=True, help="Lines of log to show; 0 for none.")
@click.option("--json", "as_json", is_flag=True, help="The record as JSON.")
def explain(trial: str, workdir: Path | None, lines: int, as_json: bool) -> None:
    """Show a trial's settings, measurements and steps, why it ended as it did, and the tail of its logs.

    TRIAL is a number, `knee` or `best-METRIC` (as `best-accuracy`).
    """
    work, _ = existing(workdir)
    record = work.read_trials()[number_of(trial, work)]
    if as_json:
        click.echo(json.dumps(record.model_dump(mode="json", by_alias=True, exclude_defaults=True), indent=2))
        return
    out = result_console()
    describe(record, out)
    if lines:
        _logs(work, record, lines)


def describe(record: OptimizationTrial, out: Console) -> None:
    """Settings, measurements and steps of a trial, and why it ended as it did."""
    status = record.status
    out.print(
        f"[bold]Trial {record.number}[/]: {status.state.value}"
        f"{f' ({status.reason})' if status.reason else ''}"
    )
    if status.message:
        out.print(status.message, markup=False)
    out.print(f"\n[bold]Settings[/]  {record.settings.sentence()}")
    out.print(
        yaml.safe_dump(record.settings.canonical(), sort_keys=True).rstrip() or "{}",
        markup=False,
        style="dim",
    )
    out.print(
        f"suggested by {record.spec.ask.origin}, knowing trials {record.spec.ask.seen or 'none'}", style="dim"
    )
    if status.metrics:
        out.print(_metrics(record))
    for pool, measured in status.pools.items():
        if measured.environment and measured.latency:
            e, t = measured.environment, measured.latency
            noisy = ", noisy" if t.noisy else ""
            copied = f", measured as trial {measured.copied_from}" if measured.copied_from is not None else ""
            out.print(
                f"{pool}: {e.cpu}, {e.runtime}, {e.threads} threads, {t.rounds} rounds{noisy}{copied}",
                markup=False,
            )
    if status.evaluation and not status.evaluation.complete:
        e2 = status.evaluation
        out.print(f"evaluated on {e2.samples} of {e2.of} samples (time limit)")
    if status.steps:
        out.print(_steps(record))


def _metrics(record: OptimizationTrial) -> Table:
    table = Table("metric", "value", "95% interval", title="Measurements", title_justify="left")
    final = record.status.final
    rows = [(n, m) for n, m in record.status.metrics.items()]
    if final:
        rows += [(f"{n} (fresh rounds)", m) for n, m in final.metrics.items()]
        rows += [(f"{n} (test)", m) for n, m in final.test.items()]
    for name, m in rows:
        plain = name.split(" ", 1)[0]
        interval = (
            "exact" if m.low == m.high else f"{show_value(plain, m.low)} to {show_value(plain, m.high)}"
        )
        table.add_row(name, show_value(plain, m.value), interval)
    return table


def _steps(record: OptimizationTrial) -> Table:
    table = Table("step", "seconds", "", title="Steps", title_justify="left")
    for step in record.status.steps:
        table.add_row(step.name, f"{step.seconds:.2f}", "cached" if step.cached else step.note)
    return table


def _logs(work: WorkDirectory, record: OptimizationTrial, lines: int) -> None:
    out = result_console()
    for log in sorted(work.logs.glob(f"{record.number:04d}-*.log")):
        tail = log.read_text(errors="replace").splitlines()[-lines:]
        if tail or record.status.state is State.FAILED:
            out.print(f"\n[bold]{log}[/]")
            out.print("\n".join(tail) or "(empty)", markup=False, style="dim", soft_wrap=True)
