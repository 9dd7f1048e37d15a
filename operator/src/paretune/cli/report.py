"""`paretune report`: the report again, and MLflow brought up to date."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import click
from paretune_contract.serving import PARENT, end_with_parent

from ..api import OptimizationStudy
from ..local.accept import Accepted
from ..local.workdir import DamagedRecord, WorkDirectory
from ..tracking.connection import default_uri
from ..tracking.redact import redact
from ..tracking.view import StudyView
from .errors import BadInput, Failed
from .view import study_view
from .workdir_option import existing, workdir_option

GRACE_SECONDS = 90.0
"""How long a finished study waits for MLflow to take the rest."""


@click.command()
@workdir_option
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), help="Where to write. Default: WORKDIR/report.html."
)
@click.option("--sync", is_flag=True, help="Write to MLflow what it missed.")
@click.option("--watch", is_flag=True, hidden=True, help="With --sync: go on while the parent process lives.")
def report(workdir: Path | None, output: Path | None, sync: bool, watch: bool) -> None:
    """Write report.html from the records, and with --sync bring MLflow up to date."""
    work, state = existing(workdir)
    if watch:
        _watch(work)
        return
    try:
        path = write_report(work, output)
        click.echo(f"report   {path}")
        if sync:
            from ..tracking.sync import sync as write

            view = study_view(work, state)
            uri = tracking_uri(work, view.study)
            outcome = write(view, work.ledger, uri)
            if outcome.error:
                raise Failed(f"{outcome.error}; {outcome.left} records are left")
            click.echo(f"MLflow   {redact(uri)}: {outcome.written} written, nothing left")
    except DamagedRecord as error:
        raise BadInput(str(error)) from error


def write_report(work: WorkDirectory, output: Path | None = None) -> Path:
    """Write report.html; returns its path."""
    from paretune_store.files import atomic_write

    from ..tracking.report import report_html

    state = work.read_state()
    assert state is not None
    path = output or work.report
    atomic_write(path, report_html(study_view(work, state)))
    return path


def tracking_uri(work: WorkDirectory, study: OptimizationStudy) -> str:
    """The manifest's, else MLFLOW_TRACKING_URI, else a sqlite file in the work directory."""
    return study.spec.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI", "") or default_uri(work.root)


class MlflowSync:
    """A process of its own writes to MLflow what the records say, so that no study waits for a server."""

    def __init__(self, work: WorkDirectory, accepted: Accepted, enabled: bool) -> None:
        self._work, self._enabled = work, enabled
        self._uri = tracking_uri(work, accepted.study)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "MlflowSync":
        if self._enabled:
            with (self._work.logs / "mlflow.log").open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "paretune.cli",
                        "report",
                        "--sync",
                        "--watch",
                        "-w",
                        str(self._work.root),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, PARENT: str(os.getpid())},
                    start_new_session=True,
                )
        return self

    def finish(self) -> str:
        """Wait for the rest to be written; a sentence on how it went."""
        later = f"Write the rest with: paretune report --sync --workdir {self._work.root}"
        if self._process is None:
            return later
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return f"MLflow at {redact(self._uri)} is slow. {later}"
        return (
            "MLflow has everything."
            if code == 0
            else f"MLflow at {redact(self._uri)} did not answer. {later}"
        )

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _watch(work: WorkDirectory) -> None:
    """Sync until the parent closes standard input, then once more in full. A dead parent ends it at once."""
    end_with_parent()
    from ..tracking.sync import watch

    os.nice(10)
    stop = threading.Event()

    def listen() -> None:
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    while not stop.is_set() and not work.front.exists():
        time.sleep(0.5)

    def load() -> StudyView | None:
        state = work.read_state()
        return study_view(work, state) if state is not None and work.front.exists() else None

    outcome = watch(load, work.ledger, tracking_uri(work, work.read_study()), stop)
    if outcome is not None and outcome.error:
        raise Failed(f"{outcome.error}; {outcome.left} records are left")
