"""How outputs, labels and inputs relate by their shapes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError

from .metric import Arrays


def sole_output(metric: str, outputs: Arrays) -> NDArray[Any]:
    """The model's only output.

    Raises:
        StageError: DataMismatch when there are several.
    """
    if len(outputs) != 1:
        raise mismatch(
            f"{metric} is of models with one output; this one has {', '.join(map(repr, outputs))}: "
            "write a metric of your own (entry points in paretune.metrics)"
        )
    return next(iter(outputs.values()))


def sample_shape(array: NDArray[Any]) -> tuple[int, ...]:
    """Shape of one sample, axes of 1 left out."""
    return tuple(n for n in array.shape[1:] if n != 1)


def reconstructed_input(output: NDArray[Any], inputs: Arrays) -> NDArray[Any] | None:
    """The input that an output reconstructs: the only input, when it has the output's shape.

    Scalars reconstruct nothing: a regression from one number to another has labels.
    """
    if len(inputs) != 1:
        return None
    source = next(iter(inputs.values()))
    shape = sample_shape(output)
    return source if shape and shape == sample_shape(source) else None


def squared_errors(output: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float64]:
    """Mean squared error of each sample, shape [n]."""
    n = len(output)
    difference = output.reshape(n, -1).astype(np.float64) - target.reshape(n, -1)
    return np.asarray(np.mean(difference**2, axis=1), np.float64)


def class_indices(metric: str, labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Labels as integers in 0..classes-1.

    Raises:
        StageError: DataMismatch for other values.
    """
    integers = labels.astype(np.int64)
    if labels.dtype.kind == "f" and not np.array_equal(integers, labels):
        odd = labels[integers != labels].flat[0]
        raise mismatch(f"{metric} takes class indices as labels; {odd!r} is none")
    outside = (integers < 0) | (integers >= classes)
    if outside.any():
        raise mismatch(
            f"label {integers[outside].flat[0]} lies outside 0..{classes - 1}: the model tells "
            f"{classes} classes apart"
        )
    return integers


def mismatch(message: str) -> StageError:
    """The data do not fit the model or the metric."""
    return StageError(Reason.DATA_MISMATCH, message)


def labels_needed(metric: str) -> StageError:
    """A metric was asked for on data without labels."""
    return mismatch(f"{metric} needs labels (`y`), and the data set has none")
