"""Where recipes are found: a run's work directory, a front.json, an exported trial, a file of one's own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paretune_contract.measurement import DEVICE_METRICS, SIZE_METRICS
from paretune_contract.stages import IntakeRequest, IntakeResult
from pydantic import ValidationError

from ..api import OptimizationTrial, State
from ..api.faults import ManifestError, path_text, shown
from ..api.source import read
from ..search.front import FrontDocument, FrontMember, FrontStudy
from ..search.made_with import made_with
from ..search.records import reported
from .recipes import NoRecipe, Recipe, RecipeDocument, Recipes
from .settings_text import plain_words, settings_from
from .sources import Sources, of_record, of_request
from .workdir import DamagedRecord, StudyState, WorkDirectory

TRIAL_FILE = "trial.yaml"
"""A trial's record as `paretune export` writes it."""
EXPECTED = (
    "expected a front.json, a run's work directory, a trial.yaml, or a file with `settings:` at its top"
)
STUDY_EXPECTED = "expected kind: OptimizationStudy"
"""What the reader of manifests says of an empty file."""


def recipes_of(place: Path) -> Recipes:
    """The recipes in a file or folder.

    Raises:
        NoRecipe: when there are none, or they cannot be read; naming the file and the cause.
    """
    if not place.is_dir():
        return _of_file(place)
    if (place / "status.json").exists():
        return _of_run(WorkDirectory(place), place)
    for name in (TRIAL_FILE, "front.json"):
        if (place / name).exists():
            return _of_file(place / name)
    raise NoRecipe(f"{place}: a folder without status.json, trial.yaml or front.json; {EXPECTED}")


# --- a run's work directory -------------------------------------------------------------------------------


def _of_run(work: WorkDirectory, place: Path) -> Recipes:
    state, request, intake = _records(work)
    sources = _sources(work, request)
    try:
        trials = work.read_trials()
        front = FrontDocument.model_validate_json(work.front.read_bytes()) if work.front.exists() else None
    except (DamagedRecord, OSError, ValueError) as error:
        raise NoRecipe(f"{place}: {_first_line(error)}") from error
    if not trials:
        raise NoRecipe(f"{place}: the study has no trial yet")
    about = front.study if front and front.study.uid == state.uid else None
    if about is None or about.made_with is None:
        made = made_with(intake, state.versions, None)
        about = FrontStudy(name=trials[0].spec.study_name, uid=state.uid, seed=state.seed, made_with=made)
    return Recipes(str(place), tuple(_of_trial(t, about, sources) for t in trials), front)


def _sources(work: WorkDirectory, request: IntakeRequest) -> Sources:
    try:
        return of_request(request, work.read_study().spec.evaluation.seconds)
    except (ManifestError, OSError) as error:
        raise NoRecipe(f"{work.manifest}: {_first_line(error)}") from error


def _records(work: WorkDirectory) -> tuple[StudyState, IntakeRequest, IntakeResult]:
    """What acceptance wrote: the state, and what intake was asked and found."""
    try:
        state = work.read_state()
        plain = json.loads((work.root / "intake.json").read_bytes())
        request = IntakeRequest.model_validate(plain["request"])
        intake = IntakeResult.model_validate(plain["result"])
    except FileNotFoundError as error:
        raise NoRecipe(f"{work.root}: no intake.json; the study has not begun") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoRecipe(f"{work.root}: status.json or intake.json is damaged: {_first_line(error)}") from error
    if state is None:
        raise NoRecipe(f"{work.root}: no status.json; the study has not begun")
    if intake.model is None:
        raise NoRecipe(f"{work.root}: intake.json has no model; the study has not begun")
    return state, request, intake


def _of_trial(trial: OptimizationTrial, about: FrontStudy | None, sources: Sources) -> Recipe:
    status = trial.status
    note = f"{status.reason}: {status.message}" if status.state is State.FAILED else ""
    return Recipe(
        settings=trial.settings,
        trial=trial.number,
        study=about,
        sha256=status.artifact.sha256 if status.artifact else "",
        bytes=status.artifact.bytes if status.artifact else 0,
        metrics=sources.metrics,
        measured=reported(trial),
        sources=sources,
        note=f"trial {trial.number} failed in its study: {note}" if note else "",
    )


# --- files ------------------------------------------------------------------------------------------------


def _of_file(file: Path) -> Recipes:
    data = _plain(file)
    if "front" in data and "baseline" in data:
        return _of_front(file, data)
    if "settings" in data:
        return Recipes(str(file), (_of_document(file, data),))
    if isinstance(data.get("spec"), Mapping) and "studyName" in data["spec"]:
        trial = _valid(file, OptimizationTrial, data)
        return Recipes(str(file), (_of_trial(trial, None, Sources()),))
    if data.get("kind") == "OptimizationStudy":
        raise NoRecipe(f"{file}: a study, which has no settings of its own; it goes with --study; {EXPECTED}")
    raise NoRecipe(f"{file}: no recipe; {EXPECTED}")


def _plain(file: Path) -> dict[str, Any]:
    """The mapping in a JSON or YAML file."""
    try:
        text = file.read_text()
    except OSError as error:
        raise NoRecipe(f"{file}: {error.strerror}; {EXPECTED}") from error
    except UnicodeDecodeError as error:
        raise NoRecipe(f"{file}: not a text file; {EXPECTED}") from error
    try:
        data = json.loads(text)
    except ValueError:
        source = read(text)
        if source.faults:
            faults = (str(fault).replace(STUDY_EXPECTED, EXPECTED) for fault in source.faults)
            raise NoRecipe([f"{file}: {fault}" for fault in faults]) from None
        data = source.data
    if not isinstance(data, dict):
        raise NoRecipe(f"{file}: no recipe; {EXPECTED}")
    return data


def _of_front(file: Path, data: Mapping[str, Any]) -> Recipes:
    front = _valid(file, FrontDocument, data)
    metrics = tuple(o.metric for o in front.objectives if o.metric not in SIZE_METRICS | DEVICE_METRICS)
    made = front.study.made_with
    told = of_record(made, metrics) if made else Sources(metrics=metrics)
    sources = _sources_beside(file, front) or told
    members: dict[int, FrontMember] = {m.trial: m for m in (front.baseline, *front.front)}
    return Recipes(
        str(file),
        tuple(_of_member(members[number], front, metrics, sources) for number in sorted(members)),
        front,
        partial=True,
    )


def _sources_beside(file: Path, front: FrontDocument) -> Sources | None:
    """What the run read that wrote the front, where the front still lies in its work directory."""
    work = WorkDirectory(file.parent)
    try:
        state, request, _ = _records(work)
        return _sources(work, request) if state.uid == front.study.uid else None
    except NoRecipe:
        return None


def _of_member(
    member: FrontMember, front: FrontDocument, metrics: tuple[str, ...], sources: Sources
) -> Recipe:
    return Recipe(
        settings=member.settings,
        trial=member.trial,
        study=front.study,
        sha256=member.artifact.sha256 if member.artifact else "",
        bytes=member.artifact.bytes if member.artifact else 0,
        metrics=metrics,
        measured=member.metrics,
        sources=sources,
    )


def _of_document(file: Path, data: Mapping[str, Any]) -> Recipe:
    try:
        settings = settings_from(data["settings"])
    except ValueError as error:
        raise NoRecipe([f"{file}: {line}" for line in str(error).splitlines()]) from error
    document = _valid(file, RecipeDocument, {**data, "settings": settings})
    made = document.study.made_with if document.study else None
    return Recipe(
        settings=settings,
        trial=document.trial,
        study=document.study,
        sha256=document.artifact.sha256 if document.artifact else "",
        bytes=document.artifact.bytes if document.artifact else 0,
        metrics=document.metrics,
        sources=of_record(made, document.metrics) if made else Sources(metrics=document.metrics),
    )


def _valid(file: Path, kind: Any, data: Mapping[str, Any]) -> Any:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = []
        for one in error.errors():
            value = "" if one["type"] == "missing" else shown(one["input"])
            lines.append(f"{file}: {path_text(one['loc'])}: {value}{plain_words(one['msg'])}")
        raise NoRecipe(lines) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
