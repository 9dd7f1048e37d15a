"""Metrics of a finished file on one split."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from paretune_contract.dataset import DataInfo
from paretune_contract.failure import StageError
from paretune_contract.measurement import Measurement
from paretune_contract.stages import Evaluation

from ..data import Batch
from .metric import Comparison, Metric
from .model import BATCH, EvaluatedModel, Floats
from .registry import BUILT_IN, failed, made
from .shapes import mismatch

ORDER_SEED = 20_240_229
"""Of the order in which samples are visited; the same in every evaluation."""
CHUNK_SECONDS = 0.25
"""The clock is looked at about this often."""
LARGEST_CHUNK = 16 * BATCH


class Samples(Protocol):
    """What an evaluation needs of a split; `paretune_compress.data.PreparedSplit` is one."""

    info: DataInfo

    @property
    def samples(self) -> int:
        """Number of samples."""
        ...

    def batches(self, size: int, *, indices: NDArray[Any] | None = None) -> Iterator[Batch]:
        """Batches of the given samples, in their order."""
        ...


def evaluate(
    model: Path,
    split: Samples,
    metrics: Sequence[str],
    *,
    reference: Path | None,
    seconds: float,
    threads: int,
) -> tuple[dict[str, Measurement], Evaluation]:
    """Measure quality metrics of a finished .tflite in its own runtime.

    Samples are visited in a fixed shuffled order, so that an evaluation that ends early has seen a random
    part, whatever the order of the file.

    Args:
        model: the file.
        split: samples, with labels where a metric needs them.
        metrics: names, built in or of installed packages.
        reference: the baseline's file, for metrics that compare with it.
        seconds: no batch begins after this; the first one always does.
        threads: of the CPU kernels.

    Raises:
        StageError: DataMismatch when data and model or metric do not fit; NotRunnable when the runtime
            refuses a file; StepFailed when a metric is unknown or a package's metric fails.
    """
    started = time.perf_counter()
    measured = {name: made(name) for name in dict.fromkeys(metrics)}
    compares = [name for name, metric in measured.items() if isinstance(metric, Comparison)]
    if compares and reference is None:
        raise mismatch(f"{compares[0]} needs the baseline's file as reference, and none was given")
    candidate = EvaluatedModel(model, threads)
    baseline = EvaluatedModel(reference, threads) if compares and reference is not None else None
    seen = 0
    for batch in _chunks(split, candidate, baseline):
        outputs = candidate(batch.inputs)
        expected = _aligned(baseline(batch.inputs), outputs) if baseline is not None else None
        for name, metric in measured.items():
            _feed(name, metric, batch, outputs, expected)
        seen += len(next(iter(batch.inputs.values())))
        if time.perf_counter() - started >= seconds:
            break
    results = {name: _result(name, metric) for name, metric in measured.items()}
    return results, Evaluation(
        split=split.info.split,
        samples=seen,
        of=split.samples,
        seconds=time.perf_counter() - started,
        complete=seen == split.samples,
    )


def _chunks(split: Samples, candidate: EvaluatedModel, baseline: EvaluatedModel | None) -> Iterator[Batch]:
    """The samples in shuffled order: the first one alone, to see that it fits and how long it takes."""
    order = np.random.default_rng(ORDER_SEED).permutation(split.samples)
    first = next(split.batches(1, indices=order[:1]), None)
    if first is None:
        raise mismatch(f"the {split.info.split.value} split is empty: {split.info.uri}")
    models = [m for m in (candidate, baseline) if m is not None]
    for model in models:
        model.check_inputs(first.inputs)
    yield first
    before = time.perf_counter()
    for model in models:
        model(first.inputs)  # once more: the very first inference is slower than the rest
    one = max(time.perf_counter() - before, 1e-6)
    size = int(min(max(CHUNK_SECONDS / one, 1), LARGEST_CHUNK))
    if size >= BATCH and split.samples > 4 * BATCH:
        size -= size % BATCH
        trial = next(split.batches(BATCH, indices=order[:BATCH]))
        for model in models:
            model.use_batches(trial.inputs)
    yield from split.batches(size, indices=order[1:])


def _feed(
    name: str, metric: Metric | Comparison, batch: Batch, outputs: Floats, expected: Floats | None
) -> None:
    try:
        if isinstance(metric, Comparison):
            metric.compare(outputs, expected or {}, batch.inputs)
        else:
            metric.update(outputs, batch.labels, batch.inputs)
    except StageError:
        raise
    except Exception as error:
        if name in BUILT_IN:
            raise
        raise failed(name, error) from error


def _result(name: str, metric: Metric | Comparison) -> Measurement:
    try:
        return Measurement.model_validate(metric.result())
    except StageError:
        raise
    except Exception as error:
        if name in BUILT_IN:
            raise
        raise failed(name, error) from error


def _aligned(reference: Floats, outputs: Floats) -> Floats:
    """The reference's outputs under the candidate's names; by position where the names differ.

    Raises:
        StageError: DataMismatch when shapes differ.
    """
    named = (
        reference
        if reference.keys() == outputs.keys()
        else dict(zip(outputs, reference.values(), strict=False))
    )
    for name, output in outputs.items():
        if name not in named or named[name].shape != output.shape:
            found = list(named[name].shape) if name in named else "none"
            raise mismatch(
                f"output {name!r} has shape {list(output.shape)}, the reference's has {found}: "
                "outputs that differ in shape cannot agree"
            )
    return named
