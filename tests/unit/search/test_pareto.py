"""Dominance, knee and hypervolume."""

import random
from itertools import combinations
from math import prod

import pytest
from paretune.api import State
from paretune.search import pareto
from paretune.search.objectives import resolve
from paretune_contract.settings import Settings
from unit.search.toy_study import record, search, spec, values

TWO = spec([{"metric": "accuracy"}, {"metric": "downloadSize"}])


def by_inclusion_exclusion(points, reference):
    """The same volume by another way: sum over all subsets of points."""
    total = 0.0
    for k in range(1, len(points) + 1):
        for subset in combinations(points, k):
            corner = [max(axis) for axis in zip(*subset, strict=True)]
            total -= (-1) ** k * prod(max(r - c, 0) for r, c in zip(reference, corner, strict=True))
    return total


@pytest.mark.parametrize("axes", [1, 2, 3, 4, 5])
def test_the_volume_agrees_with_inclusion_and_exclusion(axes):
    chance = random.Random(axes)
    for _ in range(20):
        points = [tuple(round(chance.random() * 1.2, 1) for _ in range(axes)) for _ in range(8)]
        reference = (1.0,) * axes
        assert pareto.volume(points, reference) == pytest.approx(by_inclusion_exclusion(points, reference))


def test_points_beyond_the_reference_add_nothing():
    assert pareto.volume([(2.0, 0.1)], (1.0, 1.0)) == 0
    assert pareto.volume([], (1.0, 1.0)) == 0
    assert pareto.volume([(0.5, 0.5), (1.0, 0.0)], (1.0, 1.0)) == 0.25


def test_equal_points_are_kept_once_with_the_lowest_number():
    assert pareto.nondominated({4: (1.0, 2.0), 2: (1.0, 2.0), 7: (2.0, 1.0), 8: (2.0, 2.0)}) == (2, 7)


def test_a_late_point_drops_all_that_it_dominates():
    assert pareto.nondominated({0: (3.0, 3.0), 1: (2.0, 4.0), 2: (2.0, 3.0), 3: (1.0, 9.0)}) == (2, 3)


def test_the_knee_is_farthest_from_the_line_between_the_extremes():
    points = {0: (0.0, 100.0), 1: (0.1, 30.0), 2: (0.5, 20.0), 3: (1.0, 0.0)}
    assert pareto.knee(points) == 1
    assert pareto.knee({}) is None
    assert pareto.knee({7: (1.0, 1.0)}) == 7


def test_the_best_of_an_objective_breaks_ties_by_the_others():
    points = {0: (1.0, 9.0, 1.0), 1: (1.0, 2.0, 2.0), 2: (2.0, 1.0, 0.0)}
    assert pareto.best(points, 0) == 1
    assert pareto.best(points, 1) == 2


def test_the_reference_is_the_worse_of_baseline_and_bound_times_a_tenth_more():
    manifest = spec(
        [
            {"metric": "accuracy", "maxDrop": 0.03},
            {"metric": "downloadSize", "atMost": 50_000},
            {"metric": "latency", "atMost": "20ms"},
        ]
    )
    base = values(accuracy=0.9, downloadSize=100_000, latency__cpu=0.01)
    axes = pareto.scale(resolve(manifest), base)
    assert axes is not None
    assert axes.reference == pytest.approx((0.13 * 1.1, 1.1, 2.2))
    assert axes.coordinates(base) == pytest.approx((0.1, 1.0, 1.0))


def test_the_covered_share_is_the_dominated_part_of_the_box():
    trials = [
        record(0, metrics=values(accuracy=0.9, downloadSize=100)),
        record(
            1,
            Settings.model_validate({"quantization": {"scheme": "int8"}}),
            metrics=values(accuracy=0.9, downloadSize=50),
        ),
    ]
    share, axes = pareto.covered(resolve(TWO), trials)
    assert axes is not None
    assert axes.reference == pytest.approx((0.11, 1.1))
    assert share == pytest.approx((0.01 * 0.6) / (0.11 * 1.1))


def test_a_flawless_baseline_still_leaves_a_box():
    trials = [record(0, metrics=values(accuracy=1, downloadSize=100))]
    share, _ = pareto.covered(resolve(TWO), trials)
    assert 0 < share < 1


def test_infeasible_and_failed_trials_cover_nothing():
    base = record(0, metrics=values(accuracy=0.9, downloadSize=100))
    better = values(accuracy=0.99, downloadSize=1)
    for state in (State.INFEASIBLE, State.FAILED, State.PENDING, State.PRUNED):
        trials = [base, record(1, metrics=better, state=state)]
        assert pareto.covered(resolve(TWO), trials)[0] == pareto.covered(resolve(TWO), [base])[0]


def test_the_curve_never_falls_and_ends_at_the_covered_share():
    trials = search(spec(), 25)
    objectives = resolve(spec())
    curve = list(pareto.curve(objectives, trials))
    assert [n for n, _ in curve] == list(range(25))
    shares = [s for _, s in curve]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(pareto.covered(objectives, trials)[0])
    assert shares[-1] > shares[0]


def test_nothing_is_covered_before_the_baseline_is_known():
    running = record(0, state=State.BENCHMARKING)
    assert pareto.covered(resolve(TWO), [running]) == (0.0, None)
    assert list(pareto.curve(resolve(TWO), [running])) == []
