"""What is tried on one layer at a time: fewer bits, zeros, clusters, each put into its float weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from paretune_contract.model import LayerInfo

from ..flatbuffer import Array
from ..kmeans import cluster_values
from ..steps.sparsity import unstructured_mask
from ..steps.weight_ranges import best_range


class Kind(StrEnum):
    """What is done to the weights; the amount counts bits of a weight, share of zeros, distinct weights."""

    BITS = "bits"
    SPARSITY = "sparsity"
    CLUSTERS = "clusters"


Amounts = Mapping[Kind, tuple[float, ...]]
ALL: Amounts = {
    Kind.BITS: (8, 4),
    Kind.SPARSITY: (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98),
    Kind.CLUSTERS: (64, 32, 16, 8, 4, 2),
}
"""All that is tried where there is time for it, from what changes least to what changes most."""
FEWER: Amounts = {
    Kind.BITS: (8, 4),
    Kind.SPARSITY: (0.3, 0.5, 0.7, 0.9, 0.98),
    Kind.CLUSTERS: (32, 8, 2),
}
FEWEST: Amounts = {Kind.BITS: (4,), Kind.SPARSITY: (0.4, 0.7, 0.9), Kind.CLUSTERS: (16, 4)}


@dataclass(frozen=True)
class Treatment:
    """One thing done to the weights of a layer, and how much of it."""

    kind: Kind
    amount: float


def treatments(layer: LayerInfo, amounts: Amounts) -> Iterator[Treatment]:
    """Those of the amounts that the layer can take."""
    able = {
        Kind.BITS: layer.int4 and layer.prunable,  # layers of some size, as in `resolve_layers`
        Kind.SPARSITY: layer.prunable,
        Kind.CLUSTERS: layer.clusterable,
    }
    for kind in Kind:
        if able[kind]:
            yield from (Treatment(kind, amount) for amount in amounts[kind])


def treated(weights: Array, treatment: Treatment) -> Array:
    """The weights after a treatment, float32 of the same shape: what the finished file would stand for.

    Args:
        weights: float32, output channels along the first axis.
        treatment: what is done.
    """
    if treatment.kind is Kind.SPARSITY:
        changed = weights * unstructured_mask(weights, treatment.amount)
    elif treatment.kind is Kind.CLUSTERS:
        changed = _nearest(weights, cluster_values(weights, int(treatment.amount)))
    else:
        changed = _rounded(weights, int(treatment.amount))
    return changed.astype(np.float32)


def _nearest(weights: Array, centroids: Array) -> Array:
    middles = (centroids[1:] + centroids[:-1]) / 2
    chosen: Array = centroids[np.searchsorted(middles, weights)]
    return chosen


def _rounded(weights: Array, bits: int) -> Array:
    """Integers times a scale per output channel, as floats.

    Eight bits reach to the largest weight, four to where the least is lost, as in `steps.quantization`.
    """
    steps = 2 ** (bits - 1) - 1
    if bits < 8:
        reach = best_range(weights, bits, 0)
    else:
        reach = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
    scale = np.maximum(reach, np.float32(1e-12)) / steps
    rounded: Array = np.clip(np.rint(weights / scale), -steps - 1, steps) * scale
    return rounded
