"""`kubectl paretune report`: one page with everything."""

from pathlib import Path

import click
from paretune_store.files import atomic_write

from ...cluster.reading import Cluster
from ...tracking.view import StudyView
from ..errors import BadInput
from .options import in_cluster
from .study import ReadStudy, read_study
from .words import over, phase


@click.command(short_help="Write one page about a study.")
@click.argument("study")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write. Default: STUDY.html.",
)
@in_cluster
def report(cluster: Cluster, study: str, output: Path | None) -> None:
    """Write a page about STUDY that needs no other file: the front, every trial, how it was measured.

    It is the report of `paretune run`, made from the trial records as they are now, also of a study that
    still runs.
    """
    from ...tracking.report import report_html

    view = study_view(read_study(cluster, study))
    path = output or Path(f"{study}.html")
    if not path.parent.is_dir():
        raise BadInput(f"--output {path}: there is no folder {path.parent}")
    try:
        atomic_write(path, report_html(view))
    except OSError as error:
        raise BadInput(f"--output {path}: {error.strerror}") from error
    click.echo(f"report   {path}")


def study_view(read: ReadStudy) -> StudyView:
    """What the report is made of.

    Raises:
        BadInput: when model and data are not read yet, or the baseline is not measured.
    """
    front = read.need_front()
    intake = read.study.status.intake
    if intake is None:
        raise BadInput(
            f"study {read.name}: the operator has not told what the model is; there is nothing to report"
        )
    return StudyView(
        study=read.study,
        uid=read.study.metadata.uid or "",
        seed=read.study.status.seed or 0,
        state=phase(read.raw) if over(read.raw) else "Running",
        trials=read.trials,
        front=front,
        model=intake.model,
        notes=intake.notes,
    )
