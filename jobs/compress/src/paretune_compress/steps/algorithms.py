"""Which layers an algorithm of quantization takes, and what is said of those that it leaves to minMax."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import REACHED, Algorithm, Granularity

from .. import flatbuffer as fb
from ..layers import LayerPlan

CLIPPING = frozenset({Algorithm.OCTAV, Algorithm.MSE})
"""Algorithms that choose a scale and clip what is beyond it; litert-quantizer has them."""
CLIPPED = "whose weights have no channel of zeros alone"
"""What they need of a layer."""


def clipped_plans(source: Path, plans: Sequence[LayerPlan]) -> list[LayerPlan]:
    """The plans with minMax in the place of every algorithm that chooses no scale for the layer.

    octav and mse give a channel (or tensor) of zeros alone a scale of zero, which no runtime takes.

    Args:
        source: the float .tflite that is quantized.
        plans: of its layers.
    """
    asked = [p.algorithm in CLIPPING and p.reached for p in plans]
    model = fb.read(source) if any(asked) else None
    return [
        p if ask and _has_a_scale(model, p) else replace(p, algorithm=Algorithm.MIN_MAX)
        for p, ask in zip(plans, asked, strict=True)
    ]


def clipping_sentence(source: Path, plans: Sequence[LayerPlan]) -> str:
    """What octav and mse did, as `sentence` says it; empty where neither is asked.

    Raises:
        StageError: NO_EFFECT when minMax is left with all of it.
    """
    asked = [(p, now) for p, now in zip(plans, clipped_plans(source, plans), strict=True)]
    took = [(p, p.algorithm is now.algorithm) for p, now in asked if p.algorithm in CLIPPING]
    return sentence(took, CLIPPED)


def sentence(took: Sequence[tuple[LayerPlan, bool]], needs: str) -> str:
    """Which layers minMax quantized instead: `octav; minMax in 2 of 5 layers: 'a', 'b'`.

    Args:
        took: plans that ask for another algorithm, and whether this quantized the layer; may be empty.
        needs: what the algorithm needs of a layer beside its operator, as words that follow the operators.

    Raises:
        StageError: NO_EFFECT when it did so in none of them.
    """
    if not took:
        return ""
    names = ", ".join(dict.fromkeys(p.algorithm.value for p, _ in took))
    left = [p for p, done in took if not done]
    some = ", ".join(repr(p.layer.name) for p in left[:3]) + (", ..." if len(left) > 3 else "")
    if len(left) == len(took):
        operators = sorted(set[str]().union(*(REACHED[p.algorithm] for p in left)))
        raise StageError(
            Reason.NO_EFFECT,
            f"quantization.algorithm: {names} takes none of the layers that ask for it ({some}): it is for "
            f"{', '.join(operators)} {needs}; expected {Algorithm.MIN_MAX.value}",
        )
    return names + (
        f"; {Algorithm.MIN_MAX.value} in {len(left)} of {len(took)} layers: {some}" if left else ""
    )


def channel_axis(operator: str) -> int:
    """The axis of the output channels, as LiteRT stores an operator's weights."""
    return 3 if operator == "DEPTHWISE_CONV_2D" else 0


def _has_a_scale(model: fb.Model, plan: LayerPlan) -> bool:
    weights = fb.constant(model, plan.layer.weight_tensor)
    if weights is None:
        return False
    channels = plan.granularity is Granularity.CHANNEL
    axis = channel_axis(plan.layer.operator) if channels else None
    other = tuple(i for i in range(weights.ndim) if i != axis)
    return bool(np.any(weights, axis=other).all())
