"""front.json: the models worth shipping, with the measurements that say why."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from paretune_contract.base import TolerantDocument
from paretune_contract.measurement import DOWNLOAD_SIZE, MODEL_SIZE, Metrics
from paretune_contract.settings import Settings
from pydantic import Field, field_serializer

from ..api import Goal, OptimizationStudy, OptimizationTrial, State
from . import pareto
from .made_with import MadeWith
from .objectives import ResolvedObjective
from .records import reported

SCHEMA_VERSION: Literal[1] = 1
KNEE = "knee"


class FrontStudy(TolerantDocument):
    """Which study."""

    name: str
    uid: str
    seed: int
    made_with: MadeWith | None = Field(
        None, description="What candidates were made from and with; `paretune apply` reads it."
    )


class FrontObjective(TolerantDocument):
    """An objective as it stands in the manifest, and its goal."""

    metric: str
    device: str | None = None
    goal: Goal
    at_least: float | None = None
    at_most: int | str | None = None
    max_drop: float | None = None
    max_ratio: float | None = None


class FrontArtifact(TolerantDocument):
    """A model's file."""

    path: str = Field(description="Relative to front.json.")
    sha256: str
    bytes: int


class FrontMember(TolerantDocument):
    """A trial as it is reported: the fresh rounds' values where there are any."""

    trial: int
    settings: Settings = Settings()
    metrics: Metrics
    test: Metrics | None = Field(None, description="On `dataset.test`; absent without it.")
    artifact: FrontArtifact | None = None

    @field_serializer("settings")
    def _canonical(self, settings: Settings) -> dict[str, Any]:
        return settings.canonical()


class FrontEntry(FrontMember):
    """A model of the front."""

    artifact: FrontArtifact


class FrontCounts(TolerantDocument):
    """How the final trials ended; the first four sum to them.

    `duplicate` counts the ones among them whose bytes equal an earlier trial's.
    """

    complete: int = 0
    infeasible: int = 0
    pruned: int = 0
    failed: int = 0
    duplicate: int = 0


class FrontHypervolume(TolerantDocument):
    """Share of the box between reference and zero that the feasible trials dominate.

    `reference` gives the reference point by objective: a ratio to the baseline for minimized metrics, an
    error (1 - value) for accuracy and the like. It is empty, and the value 0, while the baseline is unknown.
    """

    value: float = 0.0
    reference: dict[str, float] = Field(default_factory=dict)


class FrontDocument(TolerantDocument):
    """The content of front.json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    study: FrontStudy
    objectives: tuple[FrontObjective, ...]
    baseline: FrontMember
    front: tuple[FrontEntry, ...] = ()
    counts: FrontCounts = FrontCounts()
    hypervolume: FrontHypervolume = FrontHypervolume()

    def names(self) -> tuple[str, ...]:
        """Metric name of each objective, with its device: `accuracy`, `latency/cpu`."""
        known = [*self.baseline.metrics, *(name for m in self.front for name in m.metrics)]
        return tuple(_name(o, known) for o in self.objectives)


def _name(objective: FrontObjective, known: Sequence[str]) -> str:
    """The manifest may leave the device out where there is only one; the metrics then tell it."""
    if objective.device is not None:
        return f"{objective.metric}/{objective.device}"
    return next((n for n in known if n.partition("/")[0] == objective.metric), objective.metric)


def members(objectives: Sequence[ResolvedObjective], trials: Sequence[OptimizationTrial]) -> tuple[int, ...]:
    """Numbers of the trials on the front, ascending.

    A trial that was measured again is judged by the fresh values, the others by what the search saw. Fresh
    rounds may take a lucky trial off the front and let another in, which then is to be measured again too:
    whoever measures the front asks again until every member has fresh values.
    """
    return pareto.nondominated(pareto.candidates(objectives, trials))


def front_document(
    study: OptimizationStudy,
    uid: str,
    seed: int,
    objectives: Sequence[ResolvedObjective],
    trials: Sequence[OptimizationTrial],
    made_with: MadeWith | None = None,
) -> FrontDocument:
    """The front as it stands.

    Members are ordered by the first size objective, else the first minimized one, the best first.

    Args:
        study: the manifest.
        uid: identity of the study.
        seed: seed of its search.
        objectives: the manifest's objectives, resolved; in the same order.
        trials: records in number order, at least the final baseline.
        made_with: what candidates were made from and with, where the writer knows it.

    Raises:
        ValueError: when the first record is not the baseline in a final state.
    """
    if not trials or trials[0].number != 0 or not trials[0].final:
        raise ValueError("the front is relative to the baseline, and trial 0 is not finished")
    points = pareto.candidates(objectives, trials)
    numbers = pareto.nondominated(points)
    axis = _leading_axis(objectives)
    by_number = {t.number: t for t in trials}
    order = sorted(numbers, key=lambda n: (points[n][axis], n))
    share, axes = pareto.covered(objectives, trials, front=numbers)
    return FrontDocument(
        study=FrontStudy(name=study.metadata.name, uid=uid, seed=seed, made_with=made_with),
        objectives=tuple(
            FrontObjective.model_validate({**o.model_dump(exclude_none=True), "goal": r.goal})
            for o, r in zip(study.spec.objectives, objectives, strict=True)
        ),
        baseline=FrontMember(**_member(trials[0])),
        front=tuple(FrontEntry(**_member(by_number[n])) for n in order if by_number[n].status.artifact),
        counts=_counts(trials),
        hypervolume=FrontHypervolume(
            value=share, reference={o.name: r for o, r in zip(objectives, axes.reference, strict=True)}
        )
        if axes
        else FrontHypervolume(),
    )


def _member(trial: OptimizationTrial) -> dict[str, Any]:
    artifact, final = trial.status.artifact, trial.status.final
    return {
        "trial": trial.number,
        "settings": trial.settings,
        "metrics": dict(sorted(reported(trial).items())),
        "test": dict(sorted(final.test.items())) if final and final.test else None,
        "artifact": FrontArtifact(
            path=f"candidates/{artifact.sha256}.tflite", sha256=artifact.sha256, bytes=artifact.bytes
        )
        if artifact
        else None,
    }


def _leading_axis(objectives: Sequence[ResolvedObjective]) -> int:
    """The objective that a table of the front is sorted by."""
    for metric in (DOWNLOAD_SIZE, MODEL_SIZE):
        for i, objective in enumerate(objectives):
            if objective.metric == metric:
                return i
    return next((i for i, o in enumerate(objectives) if o.minimized), 0)


def _counts(trials: Sequence[OptimizationTrial]) -> FrontCounts:
    final = [t for t in trials if t.final]
    states = [t.status.state for t in final]
    files = [t.status.artifact.sha256 for t in final if t.status.artifact]
    return FrontCounts(
        complete=states.count(State.COMPLETE),
        infeasible=states.count(State.INFEASIBLE),
        pruned=states.count(State.PRUNED),
        failed=states.count(State.FAILED),
        duplicate=len(files) - len(set(files)),
    )


def aliases(document: FrontDocument) -> dict[str, int]:
    """Names for members of the front: `knee`, and the best of each objective, as `best-latency-cpu`.

    The names suit MLflow's model aliases: letters, digits, hyphens and underscores.
    """
    names = document.names()
    points = {m.trial: p for m in document.front if (p := _point(document, names, m.metrics)) is not None}
    found = {KNEE: pareto.knee(points)}
    for axis, name in enumerate(names):
        found[f"best-{re.sub(r'[^A-Za-z0-9_-]', '-', name)}"] = pareto.best(points, axis)
    return {alias: number for alias, number in found.items() if number is not None}


def _point(document: FrontDocument, names: Sequence[str], metrics: Mapping[str, Any]) -> pareto.Losses | None:
    resolved = [
        ResolvedObjective(name=n, metric=o.metric, device=o.device, goal=o.goal)
        for n, o in zip(names, document.objectives, strict=True)
    ]
    return pareto.losses(resolved, metrics)
