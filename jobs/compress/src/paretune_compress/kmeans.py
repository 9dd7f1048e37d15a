"""Optimal clustering of numbers on a line."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 512


def cluster_line(values: Floats, weights: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
    """The k-means clustering of sorted numbers with the least weighted squared error.

    Dynamic programming over the sorted values finds the optimum, so the result depends on nothing else
    (Wang and Song 2011, Ckmeans.1d.dp).

    Args:
        values: ascending and distinct, shape [n].
        weights: positive, shape [n].
        k: number of clusters, at least 1.

    Returns:
        Centroids, ascending, shape [min(k, n)], and for each value the index of its centroid.
    """
    n = len(values)
    if k >= n:
        return values.astype(np.float64), np.arange(n)
    w = np.concatenate([[0.0], np.cumsum(weights)])
    s = np.concatenate([[0.0], np.cumsum(weights * values)])
    q = np.concatenate([[0.0], np.cumsum(weights * values * values)])
    # cost[i, j]: squared error of one cluster over values i..j-1
    total, first, second = w[None, :] - w[:, None], s[None, :] - s[:, None], q[None, :] - q[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.maximum(second - first * first / total, 0.0)
    cost[np.tril_indices(n + 1)] = np.inf
    best = cost[0].copy()
    cut = np.zeros((k, n + 1), np.int64)
    for j in range(1, k):
        candidates = best[:, None] + cost
        cut[j] = np.argmin(candidates, axis=0)
        best = candidates[cut[j], np.arange(n + 1)]
    labels, end = np.zeros(n, np.int64), n
    centroids = np.zeros(k)
    for j in range(k - 1, -1, -1):
        start = int(cut[j, end]) if j else 0
        labels[start:end] = j
        centroids[j] = first[start, end] / total[start, end]
        end = start
    return centroids, labels


def cluster_values(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """At most k centroids for many numbers, near the optimum: they are binned first.

    Args:
        values: any shape, not empty.
        k: number of clusters, at least 1.

    Returns:
        Ascending centroids, shape [<= k], float32.
    """
    flat = np.asarray(values, np.float64).reshape(-1)
    distinct = np.unique(flat)
    if len(distinct) > BINS:
        edges = np.linspace(flat.min(), flat.max(), BINS + 1)
        bins = np.clip(np.searchsorted(edges, flat, side="right") - 1, 0, BINS - 1)
        counts = np.bincount(bins, minlength=BINS).astype(np.float64)
        sums = np.bincount(bins, weights=flat, minlength=BINS)
        distinct, counts = sums[counts > 0] / counts[counts > 0], counts[counts > 0]
    else:
        distinct, found = np.unique(flat, return_counts=True)
        counts = found.astype(np.float64)
    centroids, _ = cluster_line(distinct, counts, k)
    return np.unique(centroids.astype(np.float32))
