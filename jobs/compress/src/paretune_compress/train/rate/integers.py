"""Weights as integers times one trained step for each tensor."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.settings import Scheme

from ...flatbuffer import Array
from ...layers import LayerPlan
from .bits import Prices, prices

Variable = Any
TFTensor = Any
BIAS_LEVELS = 24
"""Levels between zero and the largest bias."""
MANTISSA = 8
"""Bits of a step's mantissa: a step is a number in the file, too."""
COARSENESS, EXPONENT, FINEST, COARSEST = 1.0, -0.85, 0.3, 2.5
"""First step in standard deviations: COARSENESS * (bits a weight) ** EXPONENT, within bounds."""
FINER = 0.5
"""Steps of small tensors, first and last ones and depthwise ones in relation to the others."""
SMALL = 0.05
"""A first or last tensor is small with less than this share of all weights."""


@dataclass(frozen=True)
class Grid:
    """The values that a tensor takes: integers of at most `largest` in magnitude, times `step`."""

    step: float
    largest: int


def first_grids(
    weights: Mapping[int, Array], kernels: Sequence[int], plans: Sequence[LayerPlan], bits_per_weight: float
) -> dict[int, Grid]:
    """Grids to begin with: the fewer bits a weight may cost, the coarser.

    The step is in proportion to the standard deviation, by a rule that was fitted to networks trained for
    0.1 to 3 bits a weight; and it reaches to the largest weight. Biases lie on a power of two.

    Args:
        weights: kernels and biases by tensor index.
        kernels: tensor indices of the kernels in execution order.
        plans: of all layers; the scheme says how many bits an integer has.
        bits_per_weight: of the budget.
    """
    coarseness = float(np.clip(COARSENESS * max(bits_per_weight, 1e-3) ** EXPONENT, FINEST, COARSEST))
    total = sum(weights[i].size for i in kernels)
    schemes = {p.layer.weight_tensor: p.scheme for p in plans}
    operators = {p.layer.weight_tensor: p.layer.operator for p in plans}
    grids: dict[int, Grid] = {}
    for i, values in weights.items():
        if i not in kernels:
            largest = max(float(np.abs(values).max(initial=0.0)), 1e-6)
            grids[i] = Grid(2.0 ** round(math.log2(largest / BIAS_LEVELS)), 127)
            continue
        end = i in (kernels[0], kernels[-1]) and values.size < SMALL * total
        fine = FINER if end or operators.get(i) == "DEPTHWISE_CONV_2D" else 1.0
        largest_integer = 7 if schemes.get(i) is Scheme.INT4 else 127
        reach = float(np.abs(values).max(initial=0.0)) / (largest_integer * 0.95)
        if schemes.get(i) is Scheme.INT4:
            reach *= 0.7  # four bits: a few are clipped, so that all others have finer steps
        spread = max(fine * coarseness * float(values.std()), reach, 1e-9)
        grids[i] = Grid(short(spread), largest_integer)
    return grids


def short(step: float) -> float:
    """The step with eight bits of mantissa."""
    unit: float = 2.0 ** (math.floor(math.log2(step)) + 1 - MANTISSA)
    return round(step / unit) * unit


class Integers:
    """weight = step * round(latent), with the gradient straight through the rounding.

    Latent weights count in steps, so one learning rate suits all tensors; steps of kernels are trained
    in the logarithm, those of biases stay. The bits of the coder act on latent weights as a force towards
    the next cheaper level.

    Args:
        weights: initial float values by tensor index.
        grids: as `first_grids` gives them.
        kernels: tensor indices whose steps are trained.
    """

    def __init__(
        self, weights: Mapping[int, Array], grids: Mapping[int, Grid], kernels: Sequence[int]
    ) -> None:
        import tensorflow as tf

        self.order = tuple(sorted(weights))
        self.kernels = tuple(sorted(kernels))
        self._grids = dict(grids)
        self.latent = {i: tf.Variable((weights[i] / grids[i].step).astype(np.float32)) for i in self.order}
        self.log_steps = {i: tf.Variable(np.float32(math.log(grids[i].step))) for i in self.kernels}
        self._masks = {i: tf.Variable(tf.ones_like(self.latent[i]), trainable=False) for i in self.order}
        self._onset = {i: tf.Variable(tf.zeros_like(self.latent[i]), trainable=False) for i in self.order}
        self._slopes = {i: tf.Variable(tf.zeros([grids[i].largest + 1]), trainable=False) for i in self.order}

    def weights(self) -> dict[int, TFTensor]:
        """The network's weights as TensorFlow values that pass gradients on."""
        import tensorflow as tf

        result: dict[int, TFTensor] = {}
        for i in self.order:
            u, largest = self.latent[i], float(self._grids[i].largest)
            whole = u + tf.stop_gradient(tf.clip_by_value(tf.round(u), -largest, largest) - u)
            step = tf.exp(self.log_steps[i]) if i in self.log_steps else self._grids[i].step
            result[i] = whole * self._masks[i] * step
        return result

    def force(self, i: int) -> TFTensor:
        """Bits per step by which a weight of tensor `i` would become cheaper towards zero, [tensor's shape].

        Between two integers bits count linearly.
        """
        import tensorflow as tf

        u = self.latent[i]
        size = tf.minimum(tf.abs(u), float(self._grids[i].largest))
        below = tf.minimum(tf.cast(size, tf.int32), self._grids[i].largest)
        slope = tf.where(below == 0, self._onset[i], tf.gather(self._slopes[i], below))
        return self._masks[i] * tf.sign(u) * slope

    def reprice(self) -> float:
        """Take prices from the present integers; returns the bits of all tensors."""
        bits = 0.0
        for i, q in self.integers().items():
            found: Prices = prices(q, self._grids[i].largest)
            bits += found.total(q)
            self._onset[i].assign(found.significant + found.magnitude[1] - found.zero)
            self._slopes[i].assign(np.diff(found.magnitude))
        return bits

    def freeze(self) -> None:
        """From here on zeros stay zeros."""
        for i, q in self.integers().items():
            self._masks[i].assign((q != 0).astype(np.float32))

    def integers(self) -> dict[int, NDArray[np.int32]]:
        """The present integers by tensor index."""
        found = {}
        for i in self.order:
            largest = self._grids[i].largest
            whole = np.rint(self.latent[i].numpy() * self._masks[i].numpy())
            found[i] = np.clip(whole, -largest, largest).astype(np.int32)
        return found

    def steps(self) -> dict[int, float]:
        """The present steps by tensor index, as short as they are stored."""
        trained = {i: short(math.exp(float(v.numpy()))) for i, v in self.log_steps.items()}
        return {i: trained.get(i, self._grids[i].step) for i in self.order}
