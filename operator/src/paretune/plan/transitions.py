"""How a trial's record changes when something happened to it. Pure: record in, record out."""

from typing import Any

from paretune_contract.failure import WORLD_REASONS, Reason
from paretune_contract.measurement import LATENCY, LATENCY_RATIO, Measurement, Metrics, on_pool
from paretune_contract.stages import (
    BENCHMARK,
    BenchmarkResult,
    CompressResult,
    EvaluateResult,
    Result,
    Step,
)
from pydantic import ValidationError

from ..api import OptimizationTrial, State
from ..api.trial import FinalMeasurement, PoolMeasurement, TrialArtifact, TrialStatus
from .observed import Work

MESSAGE_LIMIT, STEP_LIMIT = 1000, 64
_ATTEMPTS = {**dict.fromkeys(WORLD_REASONS, 3), Reason.OUT_OF_MEMORY: 1}
"""How often a stage is tried again. SIGKILL may be the system's or a person's: once more tells."""


def started(trial: OptimizationTrial, work: Work, now: str) -> OptimizationTrial:
    """A stage begins."""
    if work.final:
        return trial
    status = trial.status
    state = State.BENCHMARKING if work.stage == BENCHMARK else State.COMPRESSING
    return _with(
        trial,
        state=state,
        reason="",
        message="",
        started=status.started or now,
    )


def finished(
    trial: OptimizationTrial,
    work: Work,
    result: Result,
    reference: OptimizationTrial,
    now: str,
    coder: str = "",
) -> OptimizationTrial:
    """A stage ended, well or not.

    What a stage says is not trusted to fit a record: one that the API server would refuse is a fault of the
    stage.

    Args:
        trial: its record so far.
        work: what the stage did.
        result: what it said.
        reference: the trial that a benchmark was interleaved with.
        now: the time, as records have it.
        coder: the study's. A size by another one would not compare with those that the records have, so the
            trial fails; empty: any will do.
    """
    if isinstance(result, CompressResult) and result.reason is None and coder not in ("", result.coder):
        result = _of_another_coder(result, coder)
    try:
        after = _finished(trial, work, result, reference, now)
        TrialStatus.model_validate(after.status.model_dump())
    except ValidationError as error:
        fault = error.errors()[0]
        where, why = ".".join(map(str, fault["loc"])), fault["msg"]
        told = Result(reason=Reason.CRASHED, message=f"The stage's result fits no record: {where}: {why}")
        return _finished(trial, work, told, reference, now)
    return after


def _finished(
    trial: OptimizationTrial, work: Work, result: Result, reference: OptimizationTrial, now: str
) -> OptimizationTrial:
    if result.reason is not None:
        tried = trial.status.retries.get(result.reason.value, 0)
        if tried < _ATTEMPTS.get(result.reason, 0):
            retries = {**trial.status.retries, result.reason.value: tried + 1}
            return _with(postponed(trial, result), retries=retries)
    else:
        trial = _with(trial, retries={})
    if work.final:
        return _with_final(trial, work, result, reference)
    if result.reason is not None:
        return _failed(trial, work, result, now)
    if isinstance(result, CompressResult) and result.artifact is not None:
        sha = result.artifact.sha256
        return _with(
            trial,
            artifact=TrialArtifact(uri=f"candidates/{sha}.tflite", sha256=sha, bytes=result.artifact.bytes),
            metrics={**trial.status.metrics, **result.metrics},
            coder=result.coder,
            evaluation=result.evaluation,
            dtypes=result.inspection.dtypes if result.inspection else {},
            sparsity=result.inspection.sparsity if result.inspection else None,
            steps=_steps(trial, result),
        )
    if isinstance(result, BenchmarkResult):
        metrics = steadied(result.metrics, work.pool, reference.status.metrics)
        return measured(trial, work.pool, metrics, _pool(result, reference), result)
    raise TypeError(f"{type(result).__name__} is no result of {work.stage}")


def steadied(metrics: Metrics, pool: str, reference: Metrics) -> Metrics:
    """Latency as ratio to the reference times the reference's own latency.

    A machine's pace changes between two measurements by more than candidates differ; within one measurement,
    whose rounds are interleaved, it changes for both alike. So the ratio is what is comparable. The record
    keeps the plain distribution beside it. Without a latency of the reference (it is the reference itself
    that was measured) the plain median stands.

    Args:
        metrics: of the candidate, as measured.
        pool: the device.
        reference: metrics of the reference.
    """
    latency, ratio = on_pool(LATENCY, pool), on_pool(LATENCY_RATIO, pool)
    if ratio not in metrics or latency not in reference:
        return metrics
    pace, found = reference[latency].value, metrics[ratio]
    steady = Measurement(value=found.value * pace, low=found.low * pace, high=found.high * pace)
    return {**metrics, latency: steady}


def measured(
    trial: OptimizationTrial,
    pool: str,
    metrics: Metrics,
    measurement: PoolMeasurement,
    result: Result | None = None,
) -> OptimizationTrial:
    """A pool's measurements join the record."""
    return _with(
        trial,
        metrics={**trial.status.metrics, **metrics},
        pools={**trial.status.pools, pool: measurement},
        steps=_steps(trial, result),
    )


def copied(trial: OptimizationTrial, pool: str, source: OptimizationTrial) -> OptimizationTrial:
    """Equal bytes are never measured twice: take the earlier trial's measurements."""
    metrics = {k: v for k, v in source.status.metrics.items() if k.endswith(f"/{pool}")}
    return measured(
        trial, pool, metrics, source.status.pools[pool].model_copy(update={"copied_from": source.number})
    )


def concluded(
    trial: OptimizationTrial, state: State, reason: str, message: str, now: str
) -> OptimizationTrial:
    """The trial is over."""
    return _with(trial, state=state, reason=reason, message=message[:MESSAGE_LIMIT], finished=now)


def postponed(trial: OptimizationTrial, result: Result) -> OptimizationTrial:
    """The stage is to be tried again, however often; in a record that is final only the attempt counts."""
    assert result.reason is not None
    attempts = trial.status.attempts + 1
    if trial.final:
        return _with(trial, attempts=attempts)
    return _with(
        trial,
        state=State.PENDING,
        attempts=attempts,
        reason=result.reason.value,
        message=result.message[:MESSAGE_LIMIT],
    )


def waiting(trial: OptimizationTrial, reason: str, message: str) -> OptimizationTrial:
    """A stage was started and does not run yet: it waits for a queue, a node, quota or an image."""
    if trial.final:
        return trial
    return _with(trial, state=State.QUEUED, reason=reason, message=message[:MESSAGE_LIMIT])


def _failed(trial: OptimizationTrial, work: Work, result: Result, now: str) -> OptimizationTrial:
    assert result.reason is not None
    retries = trial.status.retries.get(result.reason.value, 0)
    where = f" (on pool {work.pool})" if work.pool else ""
    blame = f" ({retries + 1} attempts)" if retries else ""
    return concluded(
        _with(trial, steps=_steps(trial, result)),
        State.FAILED,
        result.reason.value,
        f"{result.message}{where}{blame}",
        now,
    )


def _of_another_coder(result: CompressResult, coder: str) -> Result:
    found = result.coder or "none"
    return Result(
        reason=Reason.INTERNAL,
        message=f"its downloadSize is by the coder {found}, the study's is {coder}: the image for "
        "compression is of another version than what accepted the study; give the study its image back, "
        "or begin a new one",
        steps=result.steps,
    )


def _pool(result: BenchmarkResult, reference: OptimizationTrial) -> PoolMeasurement:
    return PoolMeasurement(
        latency=result.latency,
        memory=result.memory,
        environment=result.environment,
        reference=reference.status.artifact.sha256 if reference.status.artifact else "",
    )


def _with_final(
    trial: OptimizationTrial, work: Work, result: Result, reference: OptimizationTrial
) -> OptimizationTrial:
    final = trial.status.final or FinalMeasurement()
    change: dict[str, Any] = {}
    if result.reason is not None:
        change["faults"] = {
            **final.faults,
            work.pool or "test": f"{result.reason.value}: {result.message}"[:500],
        }
    elif isinstance(result, BenchmarkResult):
        fresh = reference.status.final.metrics if reference.status.final else {}
        change["metrics"] = {**final.metrics, **steadied(result.metrics, work.pool, fresh)}
        change["pools"] = {**final.pools, work.pool: _pool(result, reference)}
    elif isinstance(result, EvaluateResult):
        change["test"] = result.metrics
    return _with(trial, final=final.model_copy(update=change))


def _steps(trial: OptimizationTrial, result: Result | None) -> tuple[Step, ...]:
    """The record's steps and the result's, as many as a record takes."""
    return (*trial.status.steps, *(result.steps if result else ()))[:STEP_LIMIT]


def _with(trial: OptimizationTrial, **change: Any) -> OptimizationTrial:
    return trial.model_copy(update={"status": trial.status.model_copy(update=change)})
