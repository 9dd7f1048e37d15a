"""What an adaptive entropy coder would pay for a matrix of integers, place by place and level by level.

The estimate follows how sparse weights are coded (Wiedemann et al. 2020, "DeepCABAC"): whether a weight is
zero, its sign, its magnitude. How likely a zero is depends on the densities of its row and its column.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
PRIOR = 2.0
"""Imagined weights of average density in each row and column, so that an empty one is not impossible."""
STEEPEST = 12.0
"""Largest logit of a zero."""
DEAREST = 16.0
"""Most bits that a magnitude costs."""


@dataclass(frozen=True)
class Prices:
    """Bits by place and level.

    zero: of a zero at each place, in the weights' shape.
    significant: of not being zero, in the weights' shape.
    magnitude: of sign and magnitude, by magnitude from 0 to largest + 1; nothing at 0.
    """

    zero: Array
    significant: Array
    magnitude: Array

    def total(self, integers: NDArray[np.int32]) -> float:
        """Bits of these integers."""
        present = integers != 0
        rest = self.magnitude[np.abs(integers)]
        return float(np.where(present, self.significant + rest, self.zero).sum(dtype=np.float64))


def as_matrix(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Weights as rows of output channels; depthwise weights, [1, h, w, c], have channels in columns."""
    if values.ndim < 2:
        return values.reshape(1, -1)
    return values.reshape(-1, values.shape[-1]) if values.shape[0] == 1 else values.reshape(len(values), -1)


def prices(integers: NDArray[np.int32], largest: int) -> Prices:
    """Prices that suit these integers, from their own statistics.

    Args:
        integers: at most `largest` in magnitude; vectors (biases) have one density for all.
        largest: the greatest magnitude that may occur.
    """
    present = as_matrix(integers != 0).astype(np.float64)
    mean = (present.sum() + 0.5) / (present.size + 1)
    logits = np.full(present.shape, _logit(mean))
    if integers.ndim > 1:
        rows = (present.sum(1, keepdims=True) + PRIOR * mean) / (present.shape[1] + PRIOR)
        columns = (present.sum(0, keepdims=True) + PRIOR * mean) / (present.shape[0] + PRIOR)
        logits = _logit(rows) + _logit(columns) - _logit(mean)
    logits = np.clip(logits, -STEEPEST, STEEPEST)
    return Prices(
        zero=_float(np.logaddexp(0, logits) / np.log(2)).reshape(integers.shape),
        significant=_float(np.logaddexp(0, -logits) / np.log(2)).reshape(integers.shape),
        magnitude=_float(_magnitudes(integers, largest)),
    )


def _magnitudes(integers: NDArray[np.int32], largest: int) -> NDArray[np.float64]:
    counts = np.bincount(np.abs(integers).reshape(-1), minlength=largest + 2).astype(np.float64)
    counts[0] = 0.0
    levels = np.arange(largest + 2)
    # A geometric prior of the same mean: levels that do not occur keep a finite price.
    mean = max(float((counts * levels).sum() / max(counts.sum(), 1.0)), 1.05)
    prior = (1 - 1 / mean) ** np.maximum(levels - 1, 0) / mean
    share = (counts + PRIOR * prior + 1e-9) / (counts.sum() + PRIOR)
    bits = np.minimum(1.0 - np.log2(share), DEAREST)
    bits[0] = 0.0
    found: NDArray[np.float64] = bits
    return found


def _logit(p: NDArray[np.float64] | float) -> NDArray[np.float64]:
    value: NDArray[np.float64] = np.log(p) - np.log1p(-np.asarray(p))
    return value


def _float(values: NDArray[np.float64]) -> Array:
    return values.astype(np.float32)
