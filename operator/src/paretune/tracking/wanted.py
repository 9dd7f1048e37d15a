"""What a store should have of a study, and what of it is missing: pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Flag, IntEnum

from ..api import OptimizationTrial
from ..search.front import aliases
from ..search.objectives import resolve
from .description import study_note
from .ledger import Logged, LoggedRun
from .progress import hypervolume_curve
from .records import (
    FRONT,
    NAME_LIMIT,
    NOTE,
    SHA256,
    STUDY,
    STUDY_KEY,
    STUDY_UID,
    TRIAL,
    Point,
    RunRecord,
    cut,
    digest_of,
    milliseconds,
    settings_params,
    study_params,
    study_status,
    study_tags,
    study_times,
    trial_run,
)
from .view import StudyView
from .wording import gains_and_costs

HYPERVOLUME = "hypervolume"
FRONT_JSON, FRONT_PNG, FRONT_TABLE = "front.json", "front.png", "front-table.json"
FRONT_SMALL = "front-small.png"
FRONT_HTML, REPORT_HTML = "front.html", "report.html"
RETIRED = "retired"
_FILES_VERSION = 1  # raised when figures or report change, so that older stores get the new ones


class Detail(IntEnum):
    """How much is drawn; drawing takes a second of a core that a benchmark may be using."""

    RECORDS = 0
    PICTURE = 1
    EVERYTHING = 2


class Parts(Flag):
    """Who writes what; the halves may be written by different processes, in any order.

    RUNS: the runs of study and trials, the curve, and the pictures and pages of the front. MODELS: the models
    of the front, their registered versions and aliases, and of the runs as much as they hang on.
    """

    RUNS = 1
    MODELS = 2
    ALL = 3


@dataclass(frozen=True)
class ModelRecord:
    """A model of the front as it should be registered."""

    trial: OptimizationTrial
    sha256: str
    name: str
    description: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    version_tags: Mapping[str, str]

    def digest(self) -> str:
        return digest_of([self.description, dict(self.tags), dict(self.version_tags)])


@dataclass(frozen=True)
class Wanted:
    """The state that a store is brought to.

    Args:
        aliases: alias to sha256; None while the study runs, when aliases stay where they are.
        models: by sha256; None while the study runs, since the front is measured afresh at its end.
        parts: what of all this is to be written. Without RUNS a run that is there stays as it is.
    """

    study: RunRecord
    trials: Mapping[int, RunRecord]
    hypervolume: tuple[Point, ...]
    files: Mapping[str, str]
    models: Mapping[str, ModelRecord] | None
    aliases: Mapping[str, str] | None
    parts: Parts = Parts.ALL


@dataclass(frozen=True, order=True)
class Task:
    """One thing to write."""

    kind: str
    key: str = ""


def wanted(view: StudyView, detail: Detail = Detail.EVERYTHING, parts: Parts = Parts.ALL) -> Wanted:
    """What a store should say about a study."""
    runs, models = Parts.RUNS in parts, Parts.MODELS in parts and view.ended
    front = {entry.trial for entry in view.front.front}
    start, end = study_times(view)
    study = RunRecord(
        key=STUDY_KEY,
        name=view.name,
        status=study_status(view),
        start=start,
        end=end if view.ended else None,
        params=study_params(view),
        tags={**study_tags(view), NOTE: study_note(view)},
    )
    return Wanted(
        study=study,
        trials={
            trial.number: trial_run(view, trial, trial.number in front)
            for trial in view.finals()
            if runs or trial.number in front
        },
        hypervolume=_curve(view) if runs else (),
        files=_files(view, detail) if runs else {},
        models=_models(view) if models else None,
        aliases=_aliases(view) if models else None,
        parts=parts,
    )


def missing(want: Wanted, logged: Logged) -> tuple[Task, ...]:
    """What is still to be written, in order: the study's run first, its end last."""
    tasks: list[Task] = []
    runs = Parts.RUNS in want.parts
    if logged.study is None:
        tasks.append(Task("open"))
    tasks += [
        Task("trial", str(number))
        for number, record in want.trials.items()
        if (
            logged.trials.get(number, LoggedRun(run_id="")).digest != record.digest()
            if runs
            else number not in logged.trials
        )
    ]
    if len(want.hypervolume) > logged.hypervolume:
        tasks.append(Task("hypervolume"))
    tasks += [Task("file", name) for name, digest in want.files.items() if logged.files.get(name) != digest]
    if want.models is not None:
        known = logged.models
        tasks += [
            Task("model", sha)
            for sha, record in want.models.items()
            if sha not in known or not known[sha].version or known[sha].digest != record.digest()
        ]
        tasks += [
            Task("retire", sha)
            for sha, model in known.items()
            if sha not in want.models and model.version and model.digest != RETIRED
        ]
    if want.aliases and logged.aliases != digest_of(dict(want.aliases)):
        tasks.append(Task("aliases"))
    if runs and (logged.study is None or logged.study.digest != want.study.digest()):
        tasks.append(Task("study"))
    return tuple(tasks)


def _curve(view: StudyView) -> tuple[Point, ...]:
    finished = {t.number: milliseconds(t.status.finished) or 0 for t in view.trials}
    return tuple(
        Point(HYPERVOLUME, value, number, finished[number]) for number, value in hypervolume_curve(view)
    )


def _files(view: StudyView, detail: Detail) -> dict[str, str]:
    if detail is Detail.RECORDS:
        return {}
    front = digest_of([_FILES_VERSION, view.front.model_dump(mode="json", by_alias=True)])
    records = [t.model_dump(mode="json", by_alias=True, exclude={"metadata"}) for t in view.finals()]
    everything = digest_of([front, records])
    files = {FRONT_JSON: front, FRONT_TABLE: front, FRONT_PNG: everything, FRONT_SMALL: everything}
    if detail is Detail.EVERYTHING:
        files |= {FRONT_HTML: everything, REPORT_HTML: digest_of([everything, view.state, list(view.notes)])}
    return files


def _models(view: StudyView) -> dict[str, ModelRecord]:
    trials = {t.number: t for t in view.trials}
    records = {}
    for entry in view.front.front:
        trial, sha = trials[entry.trial], entry.artifact.sha256
        records[sha] = ModelRecord(
            trial=trial,
            sha256=sha,
            name=f"trial-{trial.number:04d}",
            description=model_sentence(view, trial),
            params={**settings_params(trial.settings), "trial": str(trial.number)},
            tags={
                STUDY: view.name,
                STUDY_UID: view.uid,
                TRIAL: str(trial.number),
                SHA256: sha,
            },
            version_tags={
                TRIAL: str(trial.number),
                FRONT: "true",
                "paretune.settings": cut(trial.settings.sentence(), NAME_LIMIT),
            },
        )
    return records


def model_sentence(view: StudyView, trial: OptimizationTrial) -> str:
    """What a model of the front gains and costs: the description of its registered version."""
    goals = {objective.name: objective.goal.value for objective in resolve(view.study.spec)}
    entry = next(e for e in view.front.front if e.trial == trial.number)
    if trial.number == view.front.baseline.trial:
        return "The untouched model: the baseline that the others are compared with."
    words = trial.settings.sentence()
    sentence = gains_and_costs(goals, entry.metrics, view.front.baseline.metrics)
    return cut(f"{words[0].upper()}{words[1:]}: {sentence}", 2000)


def _aliases(view: StudyView) -> dict[str, str]:
    shas = {entry.trial: entry.artifact.sha256 for entry in view.front.front}
    return {alias: shas[number] for alias, number in aliases(view.front).items() if number in shas}
