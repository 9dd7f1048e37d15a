"""Metrics by name: those built in, and those of installed packages."""

import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from paretune_contract.failure import Reason, StageError

from . import accuracy, agreement, mean_squared_error, roc_auc
from .metric import Comparison, Metric

GROUP = "paretune.metrics"
BUILT_IN: dict[str, Callable[[], Metric | Comparison]] = {
    accuracy.NAME: accuracy.Accuracy,
    mean_squared_error.NAME: mean_squared_error.MeanSquaredError,
    roc_auc.NAME: roc_auc.RocAuc,
    agreement.NAME: agreement.Agreement,
}


def made(name: str) -> Metric | Comparison:
    """A fresh metric.

    Raises:
        StageError: StepFailed when no metric has that name, or its package cannot be loaded.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    point = _entry_point(name)
    try:
        metric = point.load()()
    except Exception as error:  # foreign code may raise anything
        raise failed(name, error) from error
    takes = isinstance(metric, Comparison) or callable(getattr(metric, "update", None))
    if not takes or not callable(getattr(metric, "result", None)):
        raise StageError(
            Reason.STEP_FAILED,
            f"metric {name!r} ({point.value}) gives a {type(metric).__name__} without update() and result()",
        )
    return metric  # type: ignore[no-any-return]  # the protocol was checked just now


def identity(names: Sequence[str], version: int) -> str:
    """A word that changes with the code of any of these metrics, for cache keys.

    Args:
        names: metrics.
        version: of the built-in ones.
    """
    document: dict[str, str | int] = {name: version for name in names if name in BUILT_IN}
    for name in (n for n in names if n not in BUILT_IN):
        point = _entry_point(name)
        try:
            source = inspect.getsourcefile(inspect.unwrap(point.load()))
        except Exception:  # no source, or it does not load: evaluation will say so
            source = None
        digest = hashlib.sha256(Path(source).read_bytes()).hexdigest() if source else ""
        document[name] = f"{point.value} {point.dist.version if point.dist else ''} {digest}"
    return json.dumps(document, sort_keys=True)


def compares(names: Sequence[str]) -> bool:
    """Whether any of these metrics needs a reference model.

    Raises:
        StageError: as `made` does.
    """
    return any(isinstance(made(name), Comparison) for name in names)


def failed(name: str, error: Exception) -> StageError:
    """A package's metric raised."""
    return StageError(Reason.STEP_FAILED, f"metric {name!r} failed: {type(error).__name__}: {error}")


def _entry_point(name: str) -> EntryPoint:
    installed = entry_points(group=GROUP)
    for point in installed:
        if point.name == name:
            return point
    known = ", ".join(sorted({*BUILT_IN, *(point.name for point in installed)}))
    raise StageError(
        Reason.STEP_FAILED,
        f"metric {name!r} is unknown; known are {known} (packages add metrics as entry points in {GROUP})",
    )
