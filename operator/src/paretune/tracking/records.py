"""What MLflow is told, as plain data: pure functions from a study's view to parameters, metrics and tags."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from paretune_contract.measurement import Measurement, Metrics
from paretune_contract.settings import Settings

from ..api import OptimizationTrial, State
from .redact import redact, redact_text
from .view import StudyView

PARAM_LIMIT, TAG_LIMIT, NAME_LIMIT = 6000, 8000, 250

STUDY, STUDY_UID, TRIAL, SHA256 = "paretune.study", "paretune.study.uid", "paretune.trial", "paretune.sha256"
DIGEST, FILES, ALIASES, FRONT = "paretune.digest", "paretune.files", "paretune.aliases", "paretune.front"
STUDY_DELETED = "paretune.study.deleted"
NOTE, RUN_NAME, PARENT = "mlflow.note.content", "mlflow.runName", "mlflow.parentRunId"

STUDY_KEY = "study"
"""Key of the parent run's record."""
SEARCHED, REMEASURED = 0, 1
"""Steps of a trial's metrics: what the search saw, and the fresh rounds after it. MLflow shows the latest."""

_BAD_CHARACTERS = re.compile(r"[^/\w.\- ]")


@dataclass(frozen=True)
class Point:
    """One value of a metric; time in milliseconds since 1970."""

    name: str
    value: float
    step: int
    time: int


@dataclass(frozen=True)
class RunRecord:
    """A run as it should stand in MLflow.

    Args:
        key: `study` or the trial's number; unique within a study.
        status: RUNNING, FINISHED, FAILED or KILLED.
        start: milliseconds since 1970, as is `end`; None where it is not known.
    """

    key: str
    name: str
    status: str
    start: int | None
    end: int | None
    params: Mapping[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Changes when anything that MLflow should show changes."""
        points = [[p.name, p.value, p.step, p.time] for p in self.points]
        content = [self.name, self.status, self.start, self.end, dict(self.params), points, dict(self.tags)]
        return digest_of(content)


def digest_of(content: Any) -> str:
    """sha256 of plain data; the first 32 digits, which is plenty to notice a change."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def milliseconds(time: str) -> int | None:
    """Milliseconds since 1970 of an ISO 8601 time; None where there is none."""
    try:
        return int(datetime.fromisoformat(time).timestamp() * 1000)
    except ValueError:
        return None


def key_name(name: str) -> str:
    """A name that MLflow takes as key of a parameter or metric."""
    cleaned = "/".join(part.strip() for part in _BAD_CHARACTERS.sub("_", name).split("/") if part.strip("."))
    return cleaned[:NAME_LIMIT] or "_"


def cut(text: str, limit: int) -> str:
    """Text that fits, with a mark where something is missing."""
    return text if len(text) <= limit else f"{text[: limit - 2]} …"


def settings_params(settings: Settings) -> dict[str, str]:
    """Settings as flat parameters, defaults included, so that every run has the same columns."""
    document: dict[str, Any] = settings.model_dump(mode="json", by_alias=True)
    layers = document.pop("layers")
    params: dict[str, str] = {}
    for part, value in document.items():
        inner = value.items() if isinstance(value, dict) else None
        params |= {f"{part}.{k}": _text(v) for k, v in inner} if inner is not None else {part: _text(value)}
    if layers:
        params["layers"] = json.dumps(
            [layer.canonical() if hasattr(layer, "canonical") else layer for layer in layers]
        )
    return {key: cut(value, PARAM_LIMIT) for key, value in params.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def metric_points(metrics: Metrics, step: int, time: int, prefix: str = "") -> Iterator[Point]:
    """A metric, and the ends of its 95% interval as `NAME.low` and `NAME.high` where it has one."""
    for name, measurement in metrics.items():
        for suffix, value in _parts(measurement):
            yield Point(key_name(f"{prefix}{name}") + suffix, value, step, time)


def _parts(measurement: Measurement) -> Iterator[tuple[str, float]]:
    yield "", measurement.value
    if measurement.low != measurement.high:
        yield ".low", measurement.low
        yield ".high", measurement.high


def trial_run(view: StudyView, trial: OptimizationTrial, on_front: bool) -> RunRecord:
    """The child run of a final trial."""
    status = trial.status
    start, end = milliseconds(status.started), milliseconds(status.finished)
    time = end or start or 0
    points = [*metric_points(status.metrics, SEARCHED, time)]
    if status.final:
        points += metric_points(status.final.metrics, REMEASURED, time)
        points += metric_points(status.final.test, REMEASURED, time, prefix="test/")
    points += _cost_points(trial, time)
    name = f"{trial.number:04d} {trial.settings.sentence()}"
    tags = {
        STUDY: view.name,
        STUDY_UID: view.uid,
        TRIAL: str(trial.number),
        FRONT: str(on_front).lower(),
        "paretune.state": status.state.value,
        "paretune.reason": status.reason,
        "paretune.message": cut(redact_text(status.message), TAG_LIMIT),
        "paretune.origin": trial.spec.ask.origin,
        "paretune.attempts": str(status.attempts),
        "paretune.coder": status.coder,
        SHA256: status.artifact.sha256 if status.artifact else "",
        NOTE: cut(_trial_note(trial), TAG_LIMIT),
        **_pool_tags(trial),
    }
    return RunRecord(
        key=str(trial.number),
        name=cut(name, NAME_LIMIT),
        status="FAILED" if status.state is State.FAILED else "FINISHED",
        start=start,
        end=end,
        params=settings_params(trial.settings),
        points=tuple(points),
        tags={key: value for key, value in tags.items() if value},
    )


def _cost_points(trial: OptimizationTrial, time: int) -> Iterator[Point]:
    seconds: dict[str, float] = {}
    for step in trial.status.steps:
        seconds[key_name(step.name)] = seconds.get(key_name(step.name), 0.0) + step.seconds
    for name, value in seconds.items():
        yield Point(f"seconds/{name}", value, SEARCHED, time)
    if seconds:
        yield Point("seconds/total", sum(seconds.values()), SEARCHED, time)
    for pool, measured in trial.status.pools.items():
        if measured.latency:
            yield Point(f"rounds/{key_name(pool)}", float(measured.latency.rounds), SEARCHED, time)


def _pool_tags(trial: OptimizationTrial) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pool, measured in trial.status.pools.items():
        if environment := measured.environment:
            where = f"{environment.node}: {environment.cpu}, {environment.runtime}"
            threads = "1 thread" if environment.threads == 1 else f"{environment.threads} threads"
            tags[f"paretune.device.{key_name(pool)}"] = cut(f"{where}, {threads}", TAG_LIMIT)
        if measured.latency and measured.latency.noisy:
            tags[f"paretune.noisy.{key_name(pool)}"] = "true"
    return tags


def _trial_note(trial: OptimizationTrial) -> str:
    status = trial.status
    lines = [f"**{status.state.value}**" + (f" ({status.reason})" if status.reason else "")]
    if status.message:
        lines.append(escape_markdown(redact_text(status.message)))
    cached = sum(step.cached for step in status.steps)
    if cached:
        lines.append(f"{cached} of {len(status.steps)} steps came from the cache.")
    return "\n\n".join(lines)


def escape_markdown(text: str) -> str:
    """Text that Markdown and HTML leave as it is."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|!#])", r"\\\1", escaped).replace("\n", " ")


def study_params(view: StudyView) -> dict[str, str]:
    """The manifest as parameters: what an accepted study can no longer change.

    Budget and tracking may change while a study runs, and MLflow refuses a changed parameter; the budget
    stands in tags instead.
    """
    spec: dict[str, Any] = view.study.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    params: dict[str, str] = {}
    for part in ("dataset", "devices", "model", "objectives", "search", "space", "training"):
        params.update(_flat(part, spec.get(part, {})))
    params |= {
        "model.sha256": view.model.source_sha256,
        "model.format": view.model.format.value,
        "model.parameters": str(view.model.parameters),
        "model.macs": str(view.model.macs),
        "search.seed": str(view.seed),
    }
    return {key_name(key): cut(value, PARAM_LIMIT) for key, value in sorted(params.items())}


def study_tags(view: StudyView) -> dict[str, str]:
    """Tags of the parent run; those whose values change while the study runs are here too."""
    budget = view.study.spec.budget.model_dump(mode="json", by_alias=True, exclude_none=True)
    counts = view.front.counts.model_dump(by_alias=True)
    tags = {
        STUDY: view.name,
        STUDY_UID: view.uid,
        "paretune.state": view.state,
        **{f"paretune.budget.{key}": str(value) for key, value in budget.items()},
        **{f"paretune.count.{key}": str(value) for key, value in counts.items()},
    }
    return {key: cut(value, TAG_LIMIT) for key, value in tags.items() if value}


def study_status(view: StudyView) -> str:
    """MLflow's word for the state of a study."""
    if view.state == "Failed":
        return "FAILED"
    if view.ended:
        return "FINISHED"
    return "KILLED" if view.state in {"Interrupted", "Suspended"} else "RUNNING"


def study_times(view: StudyView) -> tuple[int | None, int | None]:
    """First start and last end among the trials."""
    starts = [milliseconds(t.status.started) for t in view.trials]
    ends = [milliseconds(t.status.finished) for t in view.trials]
    return (
        min((s for s in starts if s is not None), default=None),
        max((e for e in ends if e is not None), default=None),
    )


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}", inner)
    elif isinstance(value, list):
        if value:
            yield path, json.dumps(_redacted(value))
    elif value is not None:
        yield path, redact(value) if path.endswith(".uri") else str(value)


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: redact(v) if k == "uri" else _redacted(v) for k, v in value.items()}
    return [_redacted(v) for v in value] if isinstance(value, list) else value
