"""The benchmark stage: a candidate and its reference in, measurements of the candidate out."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import LATENCY, LATENCY_RATIO, PEAK_MEMORY, Measurement, on_pool
from paretune_contract.stages import (
    Artifact,
    BenchmarkRequest,
    BenchmarkResult,
    Latency,
    Memory,
    Step,
)

from .arena import arena_bytes
from .environment import environment
from .first_run import first_run
from .rounds import Rounds, Run, measure
from .runtime import Model
from .statistics import median_interval, quantile, ratio_interval

FIRST_RUN_SECONDS = 60.0
"""A candidate that has not loaded and run once by then is given up."""


def benchmark(request: BenchmarkRequest) -> BenchmarkResult:
    """Measure a candidate's latency, its ratio to the reference, and its peak memory.

    Raises:
        StageError: NotRunnable with the runtime's message; Crashed, OutOfMemory or TimedOut from the first
            run; StoreUnavailable when a file is missing or is not the one that the request names.
    """
    if request.runtime != "litert":
        raise StageError(
            Reason.NOT_RUNNABLE,
            f"runtime {request.runtime!r} of pool {request.pool!r} is not in this image; litert is",
        )
    candidate, reference = _content(request.candidate), _content(request.reference)
    name = Path(request.candidate.path).name

    started = time.perf_counter()
    first = first_run(Path(request.candidate.path), request.threads, FIRST_RUN_SECONDS)
    first_step = Step(name="first run", seconds=time.perf_counter() - started)
    arena = arena_bytes(candidate, name)

    accelerated: list[bool] = []

    def load(content: bytes, name: str) -> Callable[[], Run]:
        def fresh() -> Run:
            model = Model(content, request.threads, name)
            accelerated.append(model.accelerated())
            return model.run

        return fresh

    rounds = measure(
        load(candidate, name),
        load(reference, f"the reference {Path(request.reference.path).name}"),
        half_width=request.half_width,
        max_seconds=request.max_seconds,
        seed=request.seed,
    )
    latency = summary(rounds)
    return BenchmarkResult(
        metrics={
            on_pool(LATENCY, request.pool): Measurement(
                value=latency.median, low=latency.low, high=latency.high
            ),
            on_pool(LATENCY_RATIO, request.pool): Measurement(
                value=latency.ratio, low=latency.ratio_low, high=latency.ratio_high
            ),
            on_pool(PEAK_MEMORY, request.pool): Measurement.exact(arena),
        },
        latency=latency,
        memory=Memory(arena=arena, process=first.peak),
        environment=environment(request.threads, any(accelerated)),
        steps=(
            first_step,
            Step(
                name="rounds",
                seconds=rounds.seconds,
                note=f"{latency.rounds} rounds of {rounds.candidate_inferences} inferences, "
                f"{rounds.reference_inferences} of the reference",
            ),
        ),
    )


def summary(rounds: Rounds) -> Latency:
    """The distribution of the candidate's rounds and its ratio to the reference."""
    median = median_interval(rounds.candidate)
    ratio = ratio_interval(rounds.candidate, rounds.reference)
    return Latency(
        median=median.value,
        p10=quantile(rounds.candidate, 0.1),
        p90=quantile(rounds.candidate, 0.9),
        low=median.low,
        high=median.high,
        ratio=ratio.value,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        rounds=len(rounds.candidate),
        inferences=len(rounds.candidate) * rounds.candidate_inferences,
        noisy=rounds.noisy,
    )


def _content(artifact: Artifact) -> bytes:
    """The artifact's bytes, if they are the ones that its digest names."""
    try:
        content = Path(artifact.path).read_bytes()
    except OSError as error:
        raise StageError(Reason.STORE_UNAVAILABLE, f"{artifact.path}: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != artifact.sha256:
        raise StageError(
            Reason.STORE_UNAVAILABLE,
            f"{artifact.path} has sha256 {found}, the request names {artifact.sha256}",
        )
    return content
