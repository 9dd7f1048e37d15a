"""Ranges of the activations over the calibration data."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import MOST_CALIBRATED

from .. import flatbuffer as fb
from ..data import PreparedSplit
from ..graph.signature import ordered_inputs
from ..runtime import open_interpreter, run_interpreter

BATCH = 32


@dataclass(frozen=True)
class Ranges:
    """Least and greatest value of each float activation over the samples.

    names: tensor names; low, high: float32 [tensors].
    """

    names: tuple[str, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def save(self, path: Path) -> None:
        np.savez(path, names=np.array(self.names, dtype=np.str_), low=self.low, high=self.high)

    @classmethod
    def load(cls, path: Path) -> "Ranges":
        with np.load(path, allow_pickle=False) as file:
            return cls(tuple(str(n) for n in file["names"]), file["low"], file["high"])


def calibrate(model: Path, data: PreparedSplit, *, threads: int, samples: int = 0) -> Ranges:
    """Run the float model over the calibration data.

    Args:
        model: the float model.
        data: for calibration.
        threads: of LiteRT.
        samples: how many of them, spread evenly over the data; 0: all, at most 512.

    Raises:
        StageError: STEP_FAILED when an activation is not finite or there are fewer samples; NOT_RUNNABLE when
            the model cannot run.
    """
    parsed = fb.read(model)
    graph = parsed.subgraphs[0]
    chosen = [
        i
        for i, tensor in enumerate(graph.tensors)
        if fb.type_name(tensor) == "FLOAT32" and not fb.is_constant(parsed, i) and fb.tensor_name(tensor)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # keeping all tensors is what is wanted here
        interpreter = open_interpreter(model, threads=threads, keep_tensors=True)
    low = np.full(len(chosen), np.inf, np.float32)
    high = np.full(len(chosen), -np.inf, np.float32)
    for inputs in _samples(parsed, data, spread(data.samples, samples)):
        run_interpreter(interpreter, inputs)
        for k, index in enumerate(chosen):
            value = _tensor(interpreter, index)
            if value is not None and value.size:
                low[k], high[k] = min(low[k], value.min()), max(high[k], value.max())
    seen = low <= high
    if not np.isfinite(low[seen]).all() or not np.isfinite(high[seen]).all():
        raise StageError(
            Reason.STEP_FAILED,
            "an activation is infinite or NaN on the calibration data; check dataset.scale",
        )
    names = tuple(fb.tensor_name(graph.tensors[i]) for i, s in zip(chosen, seen, strict=True) if s)
    return Ranges(names, low[seen], high[seen])


def spread(there: int, samples: int) -> NDArray[np.int64]:
    """Which samples of the calibration data are used: so many, at equal distances, the first and last too.

    A set that is sorted by class is so drawn from in the proportions of its classes.

    Args:
        there: samples that there are.
        samples: as `quantization.calibrationSamples`; 0: all, at most 512.

    Raises:
        StageError: STEP_FAILED when there are fewer than asked.
    """
    if samples > there:
        raise StageError(
            Reason.STEP_FAILED,
            f"quantization.calibrationSamples is {samples}, and dataset.calibration has {there}; expected at "
            f"most {there}, or 0 for all of them",
        )
    return np.unique(np.linspace(0, there - 1, samples or min(there, MOST_CALIBRATED)).astype(np.int64))


def _samples(
    model: fb.Model, data: PreparedSplit, indices: NDArray[np.int64]
) -> Iterator[list[NDArray[np.float32]]]:
    for batch in data.batches(BATCH, indices=indices):
        arrays = ordered_inputs(model, batch.inputs)
        for i in range(len(arrays[0])):
            yield [a[i : i + 1] for a in arrays]


def _tensor(interpreter: Any, index: int) -> NDArray[np.float32] | None:
    try:
        value: NDArray[np.float32] = interpreter.get_tensor(index)
    except ValueError:
        return None  # fused away by the runtime: nothing reads it
    return value
