"""`kubectl paretune status`: how studies go."""

from datetime import UTC, datetime

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ...cluster.reading import Cluster
from ..console import result_console, trial_line
from ..errors import BadInput, Failed, NothingFeasible
from .following import Follower, Gone
from .options import as_text, in_cluster, output_option
from .overview import overview, seconds_left, studies_table
from .study import ReadStudy, read_study
from .words import conditions, over, phase

REFRESH = 1.0
"""Seconds between two pictures."""


@click.command(short_help="All studies and how far they are, or one in full.")
@click.argument("study", required=False)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Studies of all namespaces.")
@click.option("-w", "--watch", is_flag=True, help="Follow STUDY until it ends.")
@output_option("table", "wide", "json", "yaml")
@in_cluster
def status(cluster: Cluster, study: str | None, everywhere: bool, watch: bool, form: str) -> int:
    """Show all studies and how far they are, or one STUDY: conditions, budget, running trials, the front.

    The front is made from the trial records as they are now: `wide` shows every metric, and where running
    trials are. `json` and `yaml` print the objects of the cluster.

    With --watch the exit code is the study's: 0 complete, 3 complete with nothing feasible, 1 failed. Without
    a terminal, a line is printed for each trial that ends.
    """
    if study is None:
        if watch:
            raise BadInput("--watch: which study? `kubectl paretune status STUDY --watch`")
        _all(cluster, everywhere, form)
        return 0
    if everywhere:
        raise BadInput(f"-A with study {study}: a study is in one namespace; name it with -n")
    if watch:
        if form in ("json", "yaml"):
            raise BadInput(f"--watch with -o {form}: expected table or wide")
        return _follow(cluster, study, form == "wide")
    if form in ("json", "yaml"):
        click.echo(as_text(cluster.study(study), form))
        return 0
    read = read_study(cluster, study)
    pods = cluster.pods(read.raw) if form == "wide" else ()
    result_console().print(overview(read, datetime.now(UTC), wide=form == "wide", pods=pods))
    return 0


def _all(cluster: Cluster, everywhere: bool, form: str) -> None:
    studies = cluster.studies(everywhere=everywhere)
    if form in ("json", "yaml"):
        click.echo(as_text({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": studies}, form))
        return
    if not studies:
        where = "the cluster" if everywhere else f"namespace {cluster.namespace}"
        more = "" if everywhere else "; -A looks in all"
        click.echo(f"No studies in {where}{more}.", err=True)
        return
    table = studies_table(studies, datetime.now(UTC), namespaces=everywhere, wide=form == "wide")
    result_console().print(table)


def _follow(cluster: Cluster, name: str, wide: bool) -> int:
    out = result_console()
    try:
        with Follower(cluster, name) as follower:
            read = _on_terminal(follower, out, wide) if out.is_terminal else _by_lines(follower, out)
    except Gone as gone:
        raise BadInput(f"study {name}: {gone}") from gone
    out.print(overview(read, datetime.now(UTC), wide=wide))
    return _code(read)


def _on_terminal(follower: Follower, out: Console, wide: bool) -> ReadStudy:
    with Live(console=out, auto_refresh=False, transient=True) as live:
        while True:
            read = follower.read()
            line = follower.problem or seconds_left(read)
            live.update(overview(read, datetime.now(UTC), wide=wide, live=line), refresh=True)
            if over(read.raw):
                return read
            follower.wait(REFRESH)


def _by_lines(follower: Follower, out: Console) -> ReadStudy:
    told: set[int] = set()
    said = ""
    while True:
        read = follower.read()
        for trial in read.trials:
            if trial.final and trial.number not in told:
                told.add(trial.number)
                out.print(Text(trial_line(trial)), soft_wrap=True)
        word = f"{phase(read.raw)}: {_sentence(read)}" if phase(read.raw) != "Running" else ""
        if word and word != said and not over(read.raw):
            out.print(Text(word), soft_wrap=True)
        said = word
        if over(read.raw):
            return read
        follower.wait(None)


def _sentence(read: ReadStudy) -> str:
    kind = {"Failed": "Failed", "Complete": "Complete", "NotReady": "Ready"}.get(
        phase(read.raw), "Progressing"
    )
    return str(conditions(read.raw).get(kind, {}).get("message", ""))


def _code(read: ReadStudy) -> int:
    if phase(read.raw) == "Failed":
        raise Failed(f"study {read.name} failed: {_sentence(read)}")
    if read.front is None or not read.front.front:
        raise NothingFeasible(f"study {read.name}: no trial meets every constraint")
    return 0
