"""`--workdir`, and how it is found when it is left out."""

from pathlib import Path

import click

from ..local.workdir import DamagedRecord, StudyState, WorkDirectory
from .errors import BadInput

RUNS = Path("runs")

workdir_option = click.option(
    "--workdir",
    "-w",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="PARETUNE_WORKDIR",
    help="Work directory of the study. Default: this folder if it is one, else the only one in ./runs.",
)


def existing(workdir: Path | None) -> tuple[WorkDirectory, StudyState]:
    """The work directory that is meant, which must hold a study.

    Raises:
        BadInput: when there is none, or more than one.
    """
    folder = workdir or _only()
    work = WorkDirectory(folder)
    state = work.read_state() if folder.is_dir() else None
    if state is None:
        raise BadInput(
            f"--workdir {folder}: holds no study; `paretune run STUDY --workdir {folder}` begins one"
        )
    return work, state


def _only() -> Path:
    if Path("status.json").exists() and Path("trials").is_dir():
        return Path()
    found = sorted(p.parent for p in RUNS.glob("*/status.json"))
    if len(found) != 1:
        names = ", ".join(str(p) for p in found) or "no study in ./runs"
        raise BadInput(f"--workdir is needed: which study is meant? ({names})")
    return found[0]


def number_of(text: str, work: WorkDirectory) -> int:
    """A trial's number, from `7`, `0007`, `NAME-0007`, `knee` or `best-METRIC`.

    Raises:
        BadInput: when there is no such trial.
    """
    from ..search.front import FrontDocument, aliases

    try:
        count = len(work.read_trials())
    except DamagedRecord as error:
        raise BadInput(str(error)) from error
    tail = text.rsplit("-", 1)[-1]
    if tail.isdigit():
        if int(tail) < count:
            return int(tail)
        raise BadInput(f"trial {text}: the study in {work.root} has trials 0 to {count - 1}")
    named: dict[str, int] = {}
    if work.front.exists():
        named = aliases(FrontDocument.model_validate_json(work.front.read_text()))
    if text in named:
        return named[text]
    raise BadInput(
        f"trial {text}: not a number, nor one of {', '.join(named) or 'knee, best-METRIC (no front yet)'}"
    )
