"""Which weights become zero: magnitude masks, unstructured, 2:4 and in blocks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from paretune_contract.settings import SparsityPattern

from .. import flatbuffer as fb
from ..layers import LayerPlan

Mask = NDArray[np.bool_]
BLOCK = 4


def unstructured_mask(weights: fb.Array, level: float) -> Mask:
    """True for the weights that stay: all but the `level` share of smallest magnitude.

    Exactly round(level * size) weights go; of equal ones those that stand first.
    """
    magnitude = np.abs(weights).reshape(-1)
    mask = np.ones(magnitude.size, np.bool_)
    mask[np.argsort(magnitude, kind="stable")[: round(level * magnitude.size)]] = False
    return mask.reshape(weights.shape)


def two_of_four_mask(weights: fb.Array) -> Mask:
    """True for the two largest of each four neighbors along the last axis (input channels as stored).

    The axis along which a matrix product sums is the one that hardware skips zeros on
    (Mishra et al. 2021, "Accelerating sparse deep neural networks"). Its length must be a multiple of four.
    """
    groups = np.abs(weights).reshape(-1, 4)
    order = np.argsort(-groups, axis=1, kind="stable")
    mask = np.zeros(groups.shape, np.bool_)
    np.put_along_axis(mask, order[:, :2], True, axis=1)
    return mask.reshape(weights.shape)


def block_mask(weights: fb.Array, level: float) -> Mask:
    """True for the weights that stay, in blocks of four neighbors along the last axis.

    Exactly round(level * blocks) blocks go, those of the least sum of squares. 1x4 is the block that LiteRT's
    sparse kernels read. The last axis' length must be a multiple of four.
    """
    blocks = weights.reshape(-1, BLOCK)
    sizes = np.square(blocks, dtype=np.float64).sum(axis=1)
    mask = np.ones(blocks.shape, np.bool_)
    mask[np.argsort(sizes, kind="stable")[: round(level * len(blocks))]] = False
    return mask.reshape(weights.shape)


def zero_blocks(weights: fb.Array) -> float:
    """Share of the blocks of four along the last axis that are all zero; 0 where four do not divide it."""
    if weights.ndim == 0 or weights.size == 0 or weights.shape[-1] % BLOCK:
        return 0.0
    return float(np.mean(~(weights != 0).reshape(-1, BLOCK).any(axis=1)))


def is_two_of_four(weights: fb.Array) -> bool:
    """Whether no four neighbors along the last axis hold more than two non-zeros."""
    if weights.ndim == 0 or weights.shape[-1] % 4 != 0:
        return False
    return bool((np.count_nonzero(weights.reshape(-1, 4), axis=1) <= 2).all())


def gradual_level(final: float, progress: float) -> float:
    """Sparsity at a share `progress` (0..1) of the ramp: fast at first, then slower and slower.

    The polynomial schedule of degree three (Zhu and Gupta 2017), beginning at zero.
    """
    return final * (1.0 - (1.0 - min(max(progress, 0.0), 1.0)) ** 3)


def mask_for(plan: LayerPlan, weights: fb.Array, progress: float = 1.0) -> Mask | None:
    """The mask of a layer at a share of the ramp; None where nothing is pruned.

    2:4 holds from the start of the ramp, and which two of four stay may change until its end: growing into
    it slowly leaves less time to recover, and measured worse.
    """
    if plan.sparsity.pattern is SparsityPattern.TWO_OF_FOUR:
        return two_of_four_mask(weights)
    if plan.sparsity.pattern is SparsityPattern.BLOCK:
        return block_mask(weights, gradual_level(plan.sparsity.level, progress))
    if plan.sparsity.pattern is SparsityPattern.UNSTRUCTURED:
        return unstructured_mask(weights, gradual_level(plan.sparsity.level, progress))
    return None


def prune(model: fb.Model, plans: Sequence[LayerPlan]) -> None:
    """Set weights to zero in place, by magnitude, without any training (one shot)."""
    for plan in plans:
        weights = fb.constant(model, plan.layer.weight_tensor)
        if weights is not None and (mask := mask_for(plan, weights)) is not None:
            fb.set_constant(model, plan.layer.weight_tensor, weights * mask)
