"""`paretune run`: the whole study on this machine."""

import json
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from ..api.manifest import ManifestError
from ..local.accept import Accepted, IntakeFailed, Refused, accept
from ..local.engine import Engine
from ..local.workdir import DamagedRecord, Locked, WorkDirectory
from ..plan.actions import Finish
from ..search.front import FrontDocument
from ..search.gates import nearest_misses
from ..search.objectives import resolve
from ..tracking.connection import ui_command
from ..tracking.redact import redact
from .console import Progress, front_columns, front_table, result_console, trial_line
from .errors import BadInput, Failed, NothingFeasible
from .gc import cache_bytes, clean_cache, drop_candidates
from .report import MlflowSync, tracking_uri, write_report
from .validate import read_manifest
from .workdir_option import RUNS


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option(
    "--workdir",
    "-w",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="PARETUNE_WORKDIR",
    help="Records, candidates, front and report live here. Default: runs/NAME.",
)
@click.option("--without", multiple=True, metavar="DEVICE", help="Leave out a device and its objectives.")
@click.option(
    "--as-local", multiple=True, metavar="DEVICE", help="Measure a device here instead, as a proxy."
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="PARETUNE_CACHE",
    help="Folder of cached steps, which studies may share. Default: WORKDIR/cache.",
)
@click.option("--cache-size", default="20GiB", show_default=True, help="Bound on the cached steps.")
@click.option(
    "--restart", is_flag=True, help="Set the study in WORKDIR aside (WORKDIR/earlier) and begin a new one."
)
@click.option(
    "--no-mlflow", is_flag=True, help="Write nothing to MLflow now; `paretune report --sync` does it later."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print front.json and paths as JSON at the end; no progress."
)
def run(
    study: Path, workdir: Path | None, without: tuple[str, ...], as_local: tuple[str, ...],
    cache: Path | None, cache_size: str, restart: bool, no_mlflow: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run STUDY on this machine, or go on with it where an earlier run stopped.

    Ctrl-C (or a crash) loses no finished trial: run the same command again. A study that is complete goes on
    when its budget was raised; anything but budget and suspend must stay as it was.
    """
    limit = cache_bytes(cache_size)
    text, _ = read_manifest(study)
    stop = threading.Event()
    try:
        work = WorkDirectory(workdir or RUNS / _name(text, study))
        with Progress(quiet=as_json) as progress, work.locked(), _stopping(stop, progress):
            if restart:
                _set_aside(work)
            accepted = accept(
                text, study, work, without=without, as_local=as_local, say=progress.say, cache=cache
            )
            finish = _study(accepted, work, cache or work.cache, progress, stop, limit, not no_mlflow)
    except ManifestError as error:
        raise BadInput([f"{study}: {fault}" for fault in error.faults]) from error
    except (Refused, IntakeFailed, DamagedRecord, Locked) as error:
        raise BadInput(str(error).splitlines()) from error
    if finish is None:
        click.echo(f"Interrupted. Go on with: paretune run {study} --workdir {work.root}", err=True)
        return 130
    return _tell(accepted, work, finish, as_json)


def _name(text: str, source: Path) -> str:
    from ..api.manifest import load

    return load(text, str(source), base=source.parent).metadata.name


def _study(
    accepted: Accepted, work: WorkDirectory, cache: Path, progress: Progress, stop: threading.Event,
    limit: int, mlflow: bool,
) -> Finish | None:  # fmt: skip
    engine = Engine(accepted, work, cache, progress.show, stop)
    for notice in engine.notices:
        progress.say(notice)
    progress.say(
        f"{accepted.study.metadata.name}: {'going on at trial' if accepted.resumed else 'up to'} "
        f"{len(engine.trials) if accepted.resumed else accepted.study.spec.budget.trials}"
        f"{'' if accepted.resumed else ' trials'} in {work.root}, {engine.capacity.parallelism} at a time"
    )
    progress.already(engine.trials)
    with MlflowSync(work, accepted, enabled=mlflow) as sync:
        finish = engine.run()
        if finish is None:
            return None
        clean_cache(work, cache, limit)
        if accepted.study.spec.artifacts.retain == "front":
            drop_candidates(work)
        if work.front.exists():
            write_report(work)
            progress.say(sync.finish())
    return finish


def _tell(accepted: Accepted, work: WorkDirectory, finish: Finish, as_json: bool) -> int:
    if finish.failed:
        raise Failed([f"The study failed: {finish.reason}: {finish.message}"])
    front = FrontDocument.model_validate_json(work.front.read_text())
    if as_json:
        plain = front.model_dump(mode="json", by_alias=True, exclude_none=True)
        paths = {"workdir": work.root, "front": work.front, "report": work.report}
        click.echo(
            json.dumps({**plain, "finished": finish.reason, "paths": {k: str(v) for k, v in paths.items()}})
        )
    objectives = resolve(accepted.study.spec)
    if not front.front:
        trials = work.read_trials()
        misses = nearest_misses(objectives, trials)[:5]
        raise NothingFeasible(
            [
                "No trial meets every constraint. Nearest:",
                *(f"  {trial_line(trials[m.number])}" for m in misses),
            ]
        )
    if not as_json:
        out = result_console()
        out.print(front_table(front, front_columns(front, [o.name for o in objectives])))
        uri = tracking_uri(work, accepted.study)
        out.print(f"{finish.message}\n", markup=False)
        out.print(
            f"front    {work.front}\nreport   {work.report}\nmodels   {work.candidates}",
            soft_wrap=True,
            markup=False,
        )
        out.print(f"MLflow   {redact(ui_command(uri))}", soft_wrap=True, markup=False)
    return 0


@contextmanager
def _stopping(stop: threading.Event, progress: Progress) -> Iterator[None]:
    """SIGINT and SIGTERM end the study in good order; a second one ends the process at once."""

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        progress.say(f"{signal.Signals(number).name}: ending running stages")
        stop.set()

    earlier = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _set_aside(work: WorkDirectory) -> None:
    state = work.read_state()
    if state is None:
        return
    aside = work.root / "earlier" / state.uid
    aside.mkdir(parents=True)
    for name in (
        "trials",
        "candidates",
        "logs",
        "front.json",
        "report.html",
        "study.yaml",
        "intake.json",
        "tracking.json",
        "status.json",
    ):  # fmt: skip  (status.json last: until then the study is still there)
        if (work.root / name).exists():
            shutil.move(str(work.root / name), aside / name)
