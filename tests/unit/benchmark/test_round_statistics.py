import itertools
import math
import random
import statistics as reference_statistics

import pytest
from paretune_benchmark.statistics import (
    half_width,
    inferences_per_round,
    interval_rank,
    is_narrow,
    median_interval,
    next_look,
    quantile,
    ratio_interval,
)


@pytest.mark.parametrize(
    ("n", "rank"),
    [(5, 1), (6, 1), (8, 1), (9, 2), (10, 2), (15, 4), (20, 6), (25, 8), (50, 18), (100, 40)],
)
def test_ranks_are_those_of_the_published_tables(n: int, rank: int) -> None:
    assert interval_rank(n) == rank


@pytest.mark.parametrize("n", [6, 24, 37, 101, 500])
def test_a_rank_covers_the_median_with_95_percent_and_the_next_one_does_not(n: int) -> None:
    def coverage(rank: int) -> float:
        return 1 - 2 * sum(math.comb(n, k) for k in range(rank)) / 2**n

    rank = interval_rank(n)
    assert coverage(rank) >= 0.95 > coverage(rank + 1)


def test_the_approximation_for_many_rounds_is_within_a_rank_of_the_exact_one() -> None:
    assert abs(interval_rank(1001) - interval_rank(1000)) <= 1


def test_an_interval_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        interval_rank(0)


def test_few_rounds_give_their_range_as_interval() -> None:
    measured = median_interval([3.0, 1.0, 2.0])
    assert (measured.low, measured.value, measured.high) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("n", [24, 61])
def test_the_interval_covers_the_median_of_skewed_times(n: int) -> None:
    rng = random.Random(n)
    trials, covered = 2000, 0
    for _ in range(trials):
        times = [rng.lognormvariate(0, 0.3) for _ in range(n)]
        measured = median_interval(times)
        covered += measured.low <= 1.0 <= measured.high
    assert covered / trials >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / trials)


def test_quantiles_are_linear_between_order_statistics() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0, 9.0]
    expected = reference_statistics.quantiles(values, n=10, method="inclusive")
    assert [quantile(values, q / 10) for q in range(1, 10)] == pytest.approx(expected)
    assert (quantile(values, 0), quantile(values, 1)) == (1.0, 9.0)


def test_what_slows_both_sides_of_a_round_cancels_in_the_ratio() -> None:
    load = [1.0 + (i % 7) for i in range(30)]
    ratio = ratio_interval([0.5 * s for s in load], [1.0 * s for s in load])
    assert (ratio.low, ratio.value, ratio.high) == (0.5, 0.5, 0.5)


def test_a_single_preempted_round_moves_neither_value_nor_interval_far() -> None:
    ratio = ratio_interval([1.0] * 29 + [500.0], [1.0] * 30)
    assert (ratio.value, ratio.high) == (1.0, 1.0)


def test_the_half_width_is_relative_to_the_ratio() -> None:
    ratio = ratio_interval([0.095, 0.105, 0.1, 0.1], [1.0] * 4)
    assert half_width(ratio) == pytest.approx(0.05)


def test_too_few_rounds_are_never_narrow_enough() -> None:
    assert not is_narrow([1.0] * 5, [1.0] * 5, 0.03)
    assert is_narrow([1.0] * 6, [1.0] * 6, 0.03)


def test_looks_become_rarer() -> None:
    looks = [next_look(0)]
    while len(looks) < 20:
        looks.append(next_look(looks[-1]))
    gaps = [b - a for a, b in itertools.pairwise(looks)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 10 * gaps[0]


def test_a_round_holds_enough_inferences_to_last_and_at_least_one() -> None:
    assert inferences_per_round(20e-6, 0.01) == 500
    assert inferences_per_round(2.0, 0.01) == 1
    assert inferences_per_round(0.0, 0.01) >= 1
