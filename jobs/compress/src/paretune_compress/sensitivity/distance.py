"""How far the outputs of a changed model are from those of the float model."""

import numpy as np
from numpy.typing import NDArray

from ..quality.model import Floats

SMALLEST = 1e-7
"""Probabilities below count as this: float32 softmax gives zeros, whose logarithm says nothing."""
SUM_TOLERANCE = 1e-3


def are_probabilities(values: NDArray[np.float32]) -> bool:
    """Whether each sample's numbers along the last axis are a distribution over several classes."""
    if values.ndim < 2 or values.shape[-1] < 2 or values.min() < 0:
        return False
    return bool(np.abs(values.sum(axis=-1, dtype=np.float64) - 1).max() <= SUM_TOLERANCE)


def distance(reference: Floats, changed: Floats) -> float:
    """Mean over the outputs: the Kullback-Leibler divergence from the reference's probabilities in nats, and
    for outputs that are none the mean squared error in units of the reference's variance.

    Args:
        reference: of the float model, float32 [n, ...] by name.
        changed: of the other one, of the same shapes.
    """
    return float(np.mean([_of_output(values, changed[name]) for name, values in reference.items()]))


def _of_output(reference: NDArray[np.float32], changed: NDArray[np.float32]) -> float:
    if are_probabilities(reference):
        p = np.maximum(reference.astype(np.float64), SMALLEST)
        q = np.maximum(changed.astype(np.float64), SMALLEST)
        return float(np.maximum(np.sum(p * np.log(p / q), axis=-1), 0.0).mean())
    variance = float(np.var(reference, dtype=np.float64))
    error = float(np.mean(np.square(reference - changed, dtype=np.float64)))
    return error / variance if variance > 0 else error
