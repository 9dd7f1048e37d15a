"""Whether the model still computes the same: both versions in the runtime."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError

from .. import flatbuffer as fb
from ..runtime import open_interpreter, run_interpreter

Sample = Sequence[NDArray[Any]]
"""One value for each input of the model, with its shape and type."""
TOLERANCE = 1e-4
"""Largest difference as a share of the largest output: sums run in another order once terms are gone."""
SMALLEST = 1e-3
"""Outputs count as this large at least: below it, what is left of large terms is rounding."""
SCALES = (0.0, 1.0, 1.0, 8.0)


def random_samples(model: fb.Model, seed: int = 0) -> list[Sample]:
    """Zeros, and normal noise of usual and of large size; inputs that are no floats are zero."""
    graph, rng = model.subgraphs[0], np.random.default_rng(seed)
    tensors = [graph.tensors[int(t)] for t in graph.inputs]
    return [
        [
            rng.normal(0, 1, fb.shape(t)).astype(np.float32) * np.float32(scale)
            if fb.type_name(t) == "FLOAT32"
            else np.zeros(fb.shape(t), fb.NUMPY_TYPES[fb.type_name(t)])
            for t in tensors
        ]
        for scale in SCALES
    ]


def must_agree(
    before: fb.Model,
    after: fb.Model,
    samples: Sequence[Sample],
    what: str = "removing dead channels",
    reason: Reason = Reason.INTERNAL,
) -> float:
    """Compare the outputs of both models.

    Args:
        before: the model as it was.
        after: the changed one.
        samples: that both run on.
        what: was done to it, for the error.
        reason: of the error.

    Returns:
        The largest difference as a share of the output's largest value, or of `SMALLEST`.

    Raises:
        StageError: `reason` when it is over `TOLERANCE`; NOT_RUNNABLE when the runtime refuses a model.
    """
    with tempfile.TemporaryDirectory() as folder:
        old = _outputs(before, Path(folder) / "before.tflite", samples)
        new = _outputs(after, Path(folder) / "after.tflite", samples)
    worst = 0.0
    for k, (a, b) in enumerate(zip(old, new, strict=True)):
        size = float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            difference = np.max(np.abs(np.where(same, 0.0, a - b)), initial=0.0) / max(size, SMALLEST)
        if not difference <= TOLERANCE:
            raise StageError(
                reason,
                f"{what} changed output {k}: by {difference:.3g} of its largest value, "
                f"at most {TOLERANCE:g} is expected",
            )
        worst = max(worst, float(difference))
    return worst


def _outputs(model: fb.Model, path: Path, samples: Sequence[Sample]) -> list[NDArray[np.float64]]:
    """For each output its values for all samples."""
    fb.write(model, path)
    interpreter = open_interpreter(path, threads=1)
    runs = [run_interpreter(interpreter, sample) for sample in samples]
    return [np.stack([np.asarray(y, np.float64) for y in outputs]) for outputs in zip(*runs, strict=True)]
