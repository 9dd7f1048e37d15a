"""From settings and a probe's table to what each layer gets."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from paretune_contract.model import LayerInfo
from paretune_contract.settings import DIVISIBLE_PATTERNS, ClusteringStage, Scheme, Settings

from ..layers import LayerPlan, Share, overridden, resolve_layers
from .allocation import cover, divide
from .curves import Curve
from .table import FULL_BITS, LayerCosts, Sensitivity

MOST_ZEROS = 0.98
LEAST_KEPT = 0.25
"""No layer keeps less than this part of what is kept on average: costs beyond saturate, and a layer that is
all but gone brings down the others."""
MOST_BITS_APART = 2.0
"""A layer's clusters are at most four times more or fewer than the mean of their logarithm says."""
FEWEST_CLUSTERS, MOST_CLUSTERS, INT4_LEVELS = 2, 256, 16


def shares(
    settings: Settings,
    layers: Sequence[LayerInfo],
    table: Sensitivity,
    *,
    tuned: bool = False,
    beside_zeros: int = FEWEST_CLUSTERS,
) -> dict[int, Share]:
    """What an allocation by sensitivity gives to each layer, by its place in `layers`.

    Level, bits and clusters of the settings are means over the weights of those layers that would have them
    alike and that no override speaks of; the others are left out. Of the mean bits no more are used. What
    single zeros cost stands for what zeros in blocks do.

    Args:
        settings: with `allocation` sensitivity.
        layers: of the float model.
        table: a probe's.
        tuned: fine-tuning follows the pruning.
        beside_zeros: fewest clusters that training makes in a layer with zeros.

    Raises:
        StageError: as `resolve_layers` does.
    """
    plans = resolve_layers(settings, layers)
    costs = {i: c for i, layer in enumerate(layers) if (c := table.of_layer(layer.name)) is not None}

    def free(part: str, has: Callable[[LayerPlan], bool]) -> list[int]:
        taken = overridden(settings, layers, part)
        return [i for i, plan in enumerate(plans) if i in costs and i not in taken and has(plan)]

    found: dict[int, Share] = {}
    for i, scheme in _schemes(
        settings, costs, free("quantization", lambda p: p.scheme is Scheme.INT4)
    ).items():
        found[i] = Share(scheme=scheme)
    pruned = free("sparsity", lambda p: p.sparsity.pattern in DIVISIBLE_PATTERNS)
    for i, level in _levels(settings.sparsity.level, costs, pruned, tuned).items():
        found[i] = replace(found.get(i, Share()), level=level)
    clustered = free("clustering", lambda p: p.clustering.clusters > 0)
    so_far = resolve_layers(settings, layers, found)
    trained = settings.clustering.stage is ClusteringStage.TRAINING
    bounds = {
        i: (
            beside_zeros if trained and so_far[i].zeros > 0 else FEWEST_CLUSTERS,
            # Clusters beyond the levels of a 4-bit integer change nothing.
            INT4_LEVELS if so_far[i].scheme is Scheme.INT4 else MOST_CLUSTERS,
        )
        for i in clustered
    }
    for i, clusters in _clusters(settings.clustering.clusters, costs, bounds).items():
        found[i] = replace(found.get(i, Share()), clusters=clusters)
    return found


def _schemes(settings: Settings, costs: dict[int, LayerCosts], at: Sequence[int]) -> dict[int, Scheme]:
    bits = settings.quantization.bits
    if not bits or not at:
        return {}
    sizes = [costs[i].weights for i in at]
    lost = [max(costs[i].of_bits(4) - costs[i].of_bits(FULL_BITS), 0.0) for i in at]
    chosen = cover(sizes, lost, (FULL_BITS - bits) / (FULL_BITS - 4))
    return {i: Scheme.INT4 if four else Scheme.INT8 for i, four in zip(at, chosen, strict=True)}


def _levels(level: float, costs: dict[int, LayerCosts], at: Sequence[int], tuned: bool) -> dict[int, float]:
    most = max(level, min(MOST_ZEROS, 1 - (1 - level) * LEAST_KEPT))
    found = {i: costs[i].tuned_zeros() if tuned else costs[i].zeros() for i in at}
    curves = {i: curve.between(0.0, most) for i, curve in found.items() if curve is not None}
    return {i: round(amount, 6) for i, amount in _divided(curves, level).items()}


def _clusters(
    clusters: int, costs: dict[int, LayerCosts], bounds: Mapping[int, tuple[int, int]]
) -> dict[int, int]:
    if not clusters:
        return {}
    saved = FULL_BITS - math.log2(clusters)
    curves: dict[int, Curve] = {}
    for i, (fewest, most) in bounds.items():
        low = min(saved, max(FULL_BITS - math.log2(most), saved - MOST_BITS_APART))
        high = max(saved, min(FULL_BITS - math.log2(fewest), saved + MOST_BITS_APART))
        if (curve := costs[i].saved_bits()) is not None:
            curves[i] = curve.between(low, high)
    divided = _divided(curves, saved)
    return {i: max(FEWEST_CLUSTERS, int(2 ** (FULL_BITS - s) + 1e-6)) for i, s in divided.items()}


def _divided(curves: dict[int, Curve], mean: float) -> dict[int, float]:
    return dict(zip(curves, divide(list(curves.values()), mean), strict=True)) if curves else {}
