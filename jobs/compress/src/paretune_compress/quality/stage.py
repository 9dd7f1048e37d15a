"""Evaluation as a cached step, and the stage that measures a finished file on another split."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from paretune_contract.dataset import DataInfo, Scaling
from paretune_contract.failure import WORLD_REASONS, StageError
from paretune_contract.measurement import Measurement
from paretune_contract.stages import Artifact, EvaluateRequest, EvaluateResult, Evaluation, Step
from paretune_store.known_steps import KnownSteps, Missing
from paretune_store.steps import StepCache

from ..data import PreparedSplit
from .evaluation import evaluate
from .registry import compares, identity

STEP = "evaluate"
STEP_VERSION = 1
"""Raised whenever an evaluation of the same file on the same data would give other numbers."""
_FILE = "evaluation.json"


class _Unfinished(Exception):
    """An evaluation that ran out of time: a result that is not kept, since another may get further."""

    def __init__(self, metrics: dict[str, Measurement], evaluation: Evaluation) -> None:
        super().__init__()
        self.metrics, self.evaluation = metrics, evaluation


def evaluate_stage(request: EvaluateRequest) -> EvaluateResult:
    """Measure quality metrics of a finished file on one split.

    Raises:
        StageError: as `evaluate` does.
    """
    metrics, evaluation, step = _evaluated(request, StepCache(Path(request.cache)))
    return EvaluateResult(metrics=metrics, evaluation=evaluation, steps=(step,))


def evaluate_known(request: EvaluateRequest, cache: KnownSteps) -> bool:
    """Whether `evaluate_stage` will find its answer, and read no data. Opens no model.

    Raises:
        StageError: what `cache` raises while it looks elsewhere.
    """
    try:
        _evaluated(request, cache)
    except Missing:
        return False
    except StageError as error:
        if error.reason in WORLD_REASONS:
            raise
    return True


def _evaluated(request: EvaluateRequest, cache: StepCache) -> tuple[dict[str, Measurement], Evaluation, Step]:
    return evaluate_cached(
        cache,
        request.artifact,
        request.data,
        request.scaling,
        request.metrics,
        reference=request.reference,
        seconds=request.evaluation_seconds,
        threads=request.threads,
    )


def evaluate_cached(
    cache: StepCache,
    artifact: Artifact,
    data: DataInfo,
    scaling: Scaling,
    metrics: tuple[str, ...],
    *,
    reference: Artifact | None,
    seconds: float,
    threads: int,
) -> tuple[dict[str, Measurement], Evaluation, Step]:
    """`evaluate`, but for what was evaluated to its end before.

    The key names file, data, scaling, metrics and their code, runtime and processor architecture. An
    evaluation that ran out of time is not kept.

    Raises:
        StageError: as `evaluate` does.
    """
    names = tuple(sorted(set(metrics)))

    def produce(folder: Path) -> None:
        measured, evaluation = evaluate(
            Path(artifact.path),
            PreparedSplit(data, scaling),
            names,
            reference=Path(reference.path) if reference else None,
            seconds=seconds,
            threads=threads,
        )
        if not evaluation.complete:
            raise _Unfinished(measured, evaluation)
        document = {
            "metrics": {name: m.model_dump(mode="json") for name, m in measured.items()},
            "evaluation": evaluation.model_dump(mode="json"),
        }
        (folder / _FILE).write_text(json.dumps(document, sort_keys=True))

    try:
        step = cache.run(
            STEP,
            STEP_VERSION,
            {
                "artifact": artifact.sha256,
                "reference": reference.sha256 if reference and compares(names) else None,
                "data": data.digest,
                "split": data.split.value,
                "scaling": scaling.model_dump(mode="json"),
                "metrics": list(names),
                "code": identity(names, STEP_VERSION),
                "runtime": f"litert {version('ai-edge-litert')} {platform.machine()}",
            },
            produce,
        )
    except _Unfinished as partial:
        done = partial.evaluation
        note = f"stopped after {done.samples:,} of {done.of:,} samples"
        return partial.metrics, done, Step(name=STEP, seconds=done.seconds, note=note)
    document = json.loads((step.folder / _FILE).read_text())
    return (
        {name: Measurement.model_validate(m) for name, m in document["metrics"].items()},
        Evaluation.model_validate(document["evaluation"]),
        Step(name=STEP, seconds=step.seconds, cached=step.cached, spared=step.spared),
    )
