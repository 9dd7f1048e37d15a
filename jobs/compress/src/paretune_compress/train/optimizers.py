"""Optimizers in a few lines of TensorFlow, without Keras and its import."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from paretune_contract.training import Optimizer

from ..flatbuffer import Array

Variable = Any
FINAL_RATE = 0.01


class Update(Protocol):
    """Applies gradients to the variables it was made for."""

    def __call__(self, gradients: Sequence[Any], rate: Any) -> None:
        """One step at learning rate `rate` (a scalar tensor)."""


def make_optimizer(
    kind: Optimizer, variables: Sequence[Variable], units: Sequence[Array] | None = None
) -> Update:
    """The update rule of `kind` for these variables.

    Args:
        kind: which rule.
        variables: what is updated.
        units: what each counts in, in a shape that goes with it; None: as it is. Gradients are to be given
            by these units, and the variables are moved in them.
    """
    if kind is Optimizer.ADAM:
        return Adam(variables, units=units)
    return Momentum(variables, units=units)


def cosine_rate(peak: float, step: int, total: int) -> float:
    """Learning rate of a step: a short warm-up, then a cosine from the peak to a hundredth of it."""
    warm_up = min(1.0, (step + 1) / max(1, min(50, total // 10)))
    share = 0.5 * (1 + math.cos(math.pi * step / max(1, total)))
    return peak * warm_up * (FINAL_RATE + (1 - FINAL_RATE) * share)


class Adam:
    """Adam (Kingma and Ba 2015) with bias correction."""

    def __init__(
        self,
        variables: Sequence[Variable],
        beta1: float = 0.9,
        beta2: float = 0.999,
        units: Sequence[Array] | None = None,
    ) -> None:
        import tensorflow as tf

        self._variables, self._units = variables, units or [np.ones((), np.float32)] * len(variables)
        self._first = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self._second = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self._steps = tf.Variable(0.0, trainable=False)
        self._betas = beta1, beta2

    def __call__(self, gradients: Sequence[Any], rate: Any) -> None:
        import tensorflow as tf

        b1, b2 = self._betas
        t = self._steps.assign_add(1.0)
        scaled = rate * tf.sqrt(1.0 - b2**t) / (1.0 - b1**t)
        moments = zip(self._first, self._second, gradients, strict=True)
        for variable, unit, (m, v, g) in zip(self._variables, self._units, moments, strict=True):
            m.assign(b1 * m + (1.0 - b1) * g)
            v.assign(b2 * v + (1.0 - b2) * tf.square(g))
            variable.assign_sub(scaled * m / (tf.sqrt(v) + 1e-7) * unit)


class Momentum:
    """Gradient descent with Nesterov momentum (Sutskever et al. 2013)."""

    def __init__(
        self, variables: Sequence[Variable], momentum: float = 0.9, units: Sequence[Array] | None = None
    ) -> None:
        import tensorflow as tf

        self._variables, self._momentum = variables, momentum
        self._units = units or [np.ones((), np.float32)] * len(variables)
        self._velocity = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]

    def __call__(self, gradients: Sequence[Any], rate: Any) -> None:
        for variable, unit, velocity, g in zip(
            self._variables, self._units, self._velocity, gradients, strict=True
        ):
            velocity.assign(self._momentum * velocity - rate * g)
            variable.assign_add((self._momentum * velocity - rate * g) * unit)
