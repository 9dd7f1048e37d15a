import itertools

import numpy as np
import pytest
from paretune_compress.kmeans import cluster_line, cluster_values
from paretune_compress.steps.clustering import cluster_integers
from paretune_compress.steps.sparsity import (
    gradual_level,
    is_two_of_four,
    two_of_four_mask,
    unstructured_mask,
)
from paretune_compress.steps.weight_ranges import best_range

rng = np.random.default_rng(3)


def test_exactly_the_smallest_weights_go_even_among_equals():
    mask = unstructured_mask(np.array([[3.0, -1, 1], [0.5, 1, -2]]), 0.5)
    assert mask.tolist() == [[True, False, False], [False, True, True]]


def test_two_of_four_keeps_the_two_largest_of_each_four_input_channels():
    weights = rng.normal(0, 1, (6, 3, 3, 8))
    mask = two_of_four_mask(weights)
    groups, kept = np.abs(weights).reshape(-1, 4), mask.reshape(-1, 4)
    assert (kept.sum(axis=1) == 2).all()
    for magnitudes, stay in zip(groups, kept, strict=True):
        assert magnitudes[stay].min() >= magnitudes[~stay].max()
    assert is_two_of_four(weights * mask)
    assert not is_two_of_four(weights)


def test_three_of_four_or_a_ragged_axis_is_not_two_of_four():
    assert not is_two_of_four(np.array([[0, 1, 1, 1, 0, 0, 0, 0]]))
    assert not is_two_of_four(np.zeros((4, 6)))


def test_sparsity_grows_from_zero_to_its_level_and_never_shrinks():
    levels = [gradual_level(0.8, p) for p in np.linspace(-0.1, 1.1, 30)]
    assert levels[0] == 0
    assert levels[-1] == pytest.approx(0.8)
    assert all(b >= a for a, b in itertools.pairwise(levels))


def test_the_clustering_on_a_line_is_the_best_of_all_divisions():
    values, weights = np.sort(rng.normal(0, 1, 9)), rng.uniform(0.1, 3, 9)

    def error(cuts):
        total = 0.0
        for a, b in itertools.pairwise((0, *cuts, 9)):
            mean = np.average(values[a:b], weights=weights[a:b])
            total += float(np.sum(weights[a:b] * (values[a:b] - mean) ** 2))
        return total

    best = min(error(cuts) for cuts in itertools.combinations(range(1, 9), 3))
    centroids, labels = cluster_line(values, weights, 4)
    assert float(np.sum(weights * (values - centroids[labels]) ** 2)) == pytest.approx(best)


def test_no_more_clusters_than_values():
    centroids, labels = cluster_line(np.array([1.0, 2.0]), np.ones(2), 5)
    assert centroids[labels].tolist() == [1, 2]


def test_many_numbers_get_at_most_k_centroids_within_their_range():
    values = rng.normal(0, 1, 20_000).astype(np.float32)
    centroids = cluster_values(values, 16)
    assert len(centroids) == 16
    assert values.min() <= centroids[0] < centroids[-1] <= values.max()
    nearest = np.abs(values[:, None] - centroids).min(axis=1)
    assert np.mean(nearest**2) < 0.012  # the optimal 16-level quantizer of a normal: 0.0095 (Max 1960)


@pytest.mark.parametrize("k", [2, 4, 16])
def test_integers_keep_at_most_k_values_and_zero_when_asked(k):
    values = rng.integers(-127, 128, (8, 40)).astype(np.int8)
    values[:, ::2] = 0
    found = cluster_integers(values, k, scales=np.ones(1, np.float32), axis=0, keep_zero=True)
    assert len(np.unique(found)) <= k
    assert (found[values == 0] == 0).all()
    assert found.dtype == np.int8


def test_errors_count_where_the_scale_is_large():
    values = np.array([[10, 20, 30, 40], [11, 21, 31, 41]], np.int8)
    scales = np.array([1.0, 1e-4], np.float32)
    found = cluster_integers(values, 4, scales=scales, axis=0, keep_zero=False)
    assert found[0].tolist() == [10, 20, 30, 40]


def test_a_range_for_four_bits_clips_outliers_and_ignores_zeros():
    dense = rng.normal(0, 1, (1, 4000)).astype(np.float32)
    dense[0, 0] = 10.0
    end = best_range(dense, 4, None)
    assert end.shape == (1, 1)
    assert end[0, 0] < 8.0
    sparse = np.zeros((1, 40_000), np.float32)
    sparse[:, :4000] = dense
    assert best_range(sparse, 4, None)[0, 0] == end[0, 0]


def test_each_channel_has_its_own_range():
    weights = np.stack([rng.normal(0, s, 500) for s in (0.01, 1.0)]).astype(np.float32)
    ends = best_range(weights, 4, 0)
    assert ends.shape == (2, 1)
    assert ends[1, 0] > 50 * ends[0, 0]
