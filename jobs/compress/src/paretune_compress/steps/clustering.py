"""Clustering in the integer domain of a finished file: at most k distinct weights in each tensor."""

from collections.abc import Sequence

import numpy as np
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import ClusteringStage

from .. import flatbuffer as fb
from ..graph.description import weighted_operators
from ..kmeans import cluster_line
from ..layers import LayerPlan

SPARSE_SHARE = 0.25


def cluster_integers(values: fb.Array, k: int, *, scales: fb.Array, axis: int, keep_zero: bool) -> fb.Array:
    """Integers drawn together to at most k distinct ones.

    The k-means optimum over the histogram, where an error counts with its scale squared: what is
    minimized is the error of the float weights, not of the integers.

    Args:
        values: int8, any shape (int4 unpacked to int8).
        k: distinct integers to leave, at least 1, with `keep_zero` at least 2.
        scales: one, or one for each index along `axis`.
        axis: the channel axis of `scales`.
        keep_zero: zeros stay zero, and zero is one of the k.
    """
    dims = [1] * values.ndim
    if len(scales) > 1:
        dims[axis] = len(scales)
    squared = np.broadcast_to((scales.astype(np.float64) ** 2).reshape(dims), values.shape).reshape(-1)
    shifted = values.reshape(-1).astype(np.int64) + 128
    mass = np.bincount(shifted, weights=np.maximum(squared, 1e-30), minlength=256).astype(np.float64)
    if keep_zero:
        mass[128] = 0.0
    present = np.flatnonzero(mass)
    table = np.zeros(256, np.int8)
    if len(present):
        clusters = max(k - 1, 1) if keep_zero else k
        centroids, labels = cluster_line((present - 128).astype(np.float64), mass[present], clusters)
        table[present] = np.rint(centroids).astype(np.int8)[labels]
    return table[shifted].reshape(values.shape).astype(values.dtype)


def cluster(model: fb.Model, plans: Sequence[LayerPlan]) -> None:
    """Cluster the integer weights of a quantized model in place, where the plan says so.

    Raises:
        StageError: NO_EFFECT when a layer that shall be clustered has no integer weights.
    """
    graph = model.subgraphs[0]
    found = weighted_operators(model)
    for plan, weighted in zip(plans, found, strict=True):
        if plan.clustering.stage is not ClusteringStage.INT8:
            continue
        index = weighted.tensors[0]
        tensor = graph.tensors[index]
        values = fb.constant(model, index)
        if values is None or fb.type_name(tensor) not in ("INT8", "INT4"):
            raise StageError(
                Reason.NO_EFFECT,
                f"clustering.stage is int8, but {plan.layer.name!r} holds {fb.type_name(tensor)} weights",
            )
        zeros = float(np.mean(values == 0))
        clustered = cluster_integers(
            values,
            plan.clustering.clusters,
            scales=fb.scales(tensor),
            axis=int(tensor.quantization.quantizedDimension),
            keep_zero=plan.zeros > 0 or zeros > SPARSE_SHARE,
        )
        fb.set_constant(model, index, clustered)
