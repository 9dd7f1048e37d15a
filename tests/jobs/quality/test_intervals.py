import math

import numpy as np
import pytest
from paretune_compress.quality.intervals import area_under_curve, auc_interval, mean_interval
from sklearn.metrics import roc_auc_score


def test_a_mean_has_the_normal_interval() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    measured = mean_interval(values)
    half = 1.959964 * values.std(ddof=1) / 2
    assert (measured.value, measured.low, measured.high) == pytest.approx((2.5, 2.5 - half, 2.5 + half))


def test_an_error_is_never_below_zero() -> None:
    assert mean_interval(np.array([0.0, 0.0, 10.0]), lowest=0.0).low == 0.0


def test_one_sample_has_no_spread() -> None:
    measured = mean_interval(np.array([3.0]))
    assert (measured.low, measured.high) == (3.0, 3.0)


def test_the_area_is_that_of_scikit_learn_with_ties_too() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(500) < 0.3
    scores = np.round(rng.normal(size=500) + positive, 1)  # rounding makes ties
    assert area_under_curve(scores, positive) == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


def test_perfect_and_inverted_scores_have_area_one_and_zero() -> None:
    positive = np.array([False, False, True, True])
    assert area_under_curve(np.array([0.1, 0.2, 0.3, 0.4]), positive) == 1.0
    assert area_under_curve(np.array([0.4, 0.3, 0.2, 0.1]), positive) == 0.0


def test_a_perfect_area_is_still_uncertain() -> None:
    measured = auc_interval(1.0, 20, 20)
    assert measured.high == 1.0
    assert 0.8 < measured.low < 0.95


def test_more_samples_narrow_the_interval_of_an_area() -> None:
    few, many = auc_interval(0.8, 30, 30), auc_interval(0.8, 3000, 3000)
    assert few.low < many.low < 0.8 < many.high < few.high


@pytest.mark.parametrize(("shift", "n", "m"), [(0.5, 40, 60), (2.0, 30, 100)])
def test_the_interval_of_an_area_covers_the_true_one(shift: float, n: int, m: int) -> None:
    true = 0.5 * (1 + math.erf(shift / 2))  # P(N(shift, 1) > N(0, 1))
    rng = np.random.default_rng(1)
    positive = np.arange(n + m) < n
    runs, covered = 600, 0
    for _ in range(runs):
        scores = rng.normal(size=n + m) + shift * positive
        measured = auc_interval(area_under_curve(scores, positive), n, m)
        covered += measured.low <= true <= measured.high
    assert covered / runs >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs)
