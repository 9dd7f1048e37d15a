"""Proportions with their interval, and metric names."""

import math

import pytest
from paretune_contract.measurement import (
    DEVICE_METRICS,
    QUALITY_METRICS,
    SIZE_METRICS,
    Measurement,
    on_pool,
    wilson,
)
from pydantic import ValidationError


def test_the_interval_agrees_with_the_published_example() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263, and 0 of 20.
    m = wilson(81, 263)
    assert (round(m.low, 4), round(m.high, 4)) == (0.2553, 0.3662)
    assert round(wilson(0, 20).high, 4) == 0.1611


@pytest.mark.parametrize("n", [1, 3, 7, 1000, 10_007])
def test_the_estimate_lies_in_its_interval_even_at_the_ends(n: int) -> None:
    for successes in (0, n, n / 2):
        m = wilson(successes, n)
        assert 0 <= m.low <= m.value <= m.high <= 1


def test_more_samples_make_the_interval_narrower() -> None:
    widths = [m.high - m.low for m in (wilson(0.9 * n, n) for n in (10, 100, 1000))]

    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_impossible_counts_are_refused(successes: float, n: int) -> None:
    with pytest.raises(ValueError, match="wilson"):
        wilson(successes, n)


def test_an_exact_number_is_its_own_interval() -> None:
    assert Measurement.exact(7) == Measurement(value=7, low=7, high=7)


def test_a_measurement_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError):
        Measurement(value=math.nan, low=0, high=1)


def test_a_metric_on_a_pool_carries_its_name() -> None:
    assert on_pool("latency", "pi") == "latency/pi"


def test_each_metric_has_one_origin() -> None:
    assert not QUALITY_METRICS & SIZE_METRICS
    assert not (QUALITY_METRICS | SIZE_METRICS) & DEVICE_METRICS
