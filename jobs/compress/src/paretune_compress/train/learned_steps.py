"""Weights rounded to integers times learned steps while they are trained (LSQ, Esser et al. 2020)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from paretune_contract.settings import Granularity, Scheme
from paretune_store.steps import JSON

from ..flatbuffer import Array
from ..layers import LayerPlan
from ..steps.algorithms import channel_axis
from ..steps.weight_ranges import best_range

Variable = Any
TFTensor = Any
FINEST = 2.0**-12
"""No step is less than this share of its tensor's largest: a channel of next to nothing would leave its bias
without room in 32 bits."""
SMALLEST = 1e-9
"""Of a tensor that is all zeros."""
GROWTH = 20.0
"""A step of the optimizer changes a learned step by so many times the learning rate, in its own size: as it
does a typical weight. Slower than that, one step for a whole tensor was found too late."""


@dataclass(frozen=True)
class IntegerFormat:
    """How the weights of one tensor are stored.

    bits: 4 or 8; the lowest integer is left out, so that zero lies in the middle.
    axis: of the channels that have a step each; None for one step.
    """

    bits: int
    axis: int | None

    @property
    def largest(self) -> int:
        """The greatest magnitude of an integer."""
        return int(2 ** (self.bits - 1) - 1)


def integer_formats(plans: Sequence[LayerPlan]) -> dict[int, IntegerFormat]:
    """Formats of the tensors that are trained as integers, by tensor index.

    A tensor that several layers share is among them only where these store it alike.
    """
    asked: dict[int, set[IntegerFormat | None]] = {}
    for plan in plans:
        asked.setdefault(plan.layer.weight_tensor, set()).add(_format(plan) if plan.aware else None)
    return {i: one for i, (one, *others) in asked.items() if one is not None and not others}


def integers_key(plans: Sequence[LayerPlan]) -> dict[str, JSON]:
    """The formats in a trainer's cache key."""
    return {str(i): [own.bits, own.axis] for i, own in sorted(integer_formats(plans).items())}


def _format(plan: LayerPlan) -> IntegerFormat:
    bits = 4 if plan.scheme is Scheme.INT4 else 8
    if plan.granularity is Granularity.TENSOR:
        return IntegerFormat(bits, None)
    return IntegerFormat(bits, channel_axis(plan.layer.operator))


class LearnedSteps:
    """The steps of some tensors: weight = step * integer, from `begin` on.

    The gradient passes straight through the rounding to weights that are not clipped, and reaches the step as
    in LSQ, in proportion to 1 / sqrt(weights * largest integer). Steps are trained in the logarithm.

    Args:
        formats: by tensor index.
        shapes: of the weights, by tensor index.
    """

    def __init__(self, formats: Mapping[int, IntegerFormat], shapes: Mapping[int, Sequence[int]]) -> None:
        import tensorflow as tf

        self._formats = {i: f for i, f in formats.items() if i in shapes}
        dims = {i: _kept(shapes[i], f.axis) for i, f in self._formats.items()}
        self._first = {i: tf.Variable(tf.ones(d), trainable=False) for i, d in dims.items()}
        self._growth = {i: tf.Variable(tf.zeros(d)) for i, d in dims.items()}
        self._on = tf.Variable(False, trainable=False)

    def __contains__(self, i: int) -> bool:
        return i in self._formats

    def __bool__(self) -> bool:
        return bool(self._formats)

    @property
    def variables(self) -> list[Variable]:
        """All that the optimizer moves."""
        return [self._growth[i] for i in sorted(self._growth)]

    def begin(self, weights: Mapping[int, Array]) -> None:
        """Take first steps that suit these weights; from here on weights are rounded."""
        for i, f in self._formats.items():
            self._first[i].assign(first_step(weights[i], f))
        self._on.assign(True)

    def rounded(self, i: int, weights: TFTensor) -> TFTensor:
        """Weights of tensor `i` as the network sees them, with gradients."""
        import tensorflow as tf

        return tf.cond(self._on, lambda: self._through(i, weights), lambda: tf.identity(weights))

    def on_grid(self, i: int, weights: Array) -> Array:
        """The same for good: integers times the present step, float32."""
        if not self._on.numpy():
            return weights
        step, largest = self._step(i).numpy(), self._formats[i].largest
        integers = np.rint(np.clip(weights / step, -largest, largest))
        grid: Array = (integers.astype(np.float64) * step).astype(np.float32)
        return grid

    def steps(self) -> dict[int, list[float]]:
        """The present steps by tensor index, one or one for each channel; none before `begin`."""
        if not self._on.numpy():
            return {}
        return {i: [float(s) for s in self._step(i).numpy().reshape(-1)] for i in sorted(self._formats)}

    def _step(self, i: int) -> TFTensor:
        import tensorflow as tf

        return self._first[i] * tf.exp(self._growth[i] * GROWTH)

    def _through(self, i: int, weights: TFTensor) -> TFTensor:
        import tensorflow as tf

        largest = float(self._formats[i].largest)
        step = self._step(i)
        share = 1.0 / np.sqrt(np.prod(weights.shape) / np.prod(step.shape) * largest)
        step = step * share + tf.stop_gradient(step - step * share)
        clipped = tf.clip_by_value(weights / step, -largest, largest)
        return (clipped + tf.stop_gradient(tf.round(clipped) - clipped)) * step


def first_step(weights: Array, form: IntegerFormat) -> Array:
    """Steps to begin with: up to the largest weight, at four bits what loses least.

    Returns:
        float32, with the rank of `weights`.
    """
    other = tuple(k for k in range(weights.ndim) if k != form.axis)
    reach = (
        best_range(weights, form.bits, form.axis)
        if form.bits == 4
        else np.abs(weights).max(axis=other, keepdims=True)
    )
    floor = max(float(reach.max()) * FINEST, SMALLEST)
    step: Array = (np.maximum(reach, floor) / form.largest).astype(np.float32)
    return step


def _kept(shape: Sequence[int], axis: int | None) -> list[int]:
    return [d if k == axis else 1 for k, d in enumerate(shape)]
