"""How far a few bits reach: the range of weights that loses least when it is quantized."""

import numpy as np
from numpy.typing import NDArray

from ..flatbuffer import Array

RATIOS = np.linspace(1.0, 0.3, 36)


def best_range(weights: Array, bits: int, axis: int | None) -> NDArray[np.float32]:
    """The symmetric range with the least squared error after rounding to `bits`.

    At four bits the largest weight is a poor measure: clipping a few lets all others have finer steps. Zeros
    cost nothing at any range, so sparse tensors are measured by what is left of them.

    Args:
        weights: float, any shape.
        bits: of the integers, which reach from -2**(bits-1) to 2**(bits-1) - 1.
        axis: of the channels that have a range each; None for one range.

    Returns:
        What the largest integer stands for: positive, with the rank of `weights`.
    """
    steps = 2 ** (bits - 1) - 1
    other = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.maximum(np.abs(weights).max(axis=other, keepdims=True), np.float32(1e-12))
    best, least = largest.copy(), np.full(largest.shape, np.inf)
    for ratio in RATIOS:
        scale = largest * np.float32(ratio / steps)
        rounded = np.clip(np.rint(weights / scale), -steps - 1, steps) * scale
        error = np.sum(np.square(weights - rounded, dtype=np.float64), axis=other, keepdims=True)
        better = error < least
        best, least = np.where(better, scale * steps, best), np.where(better, error, least)
    ends: NDArray[np.float32] = best.astype(np.float32)
    return ends
