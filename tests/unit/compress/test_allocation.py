"""Budgets divided among layers: pure arithmetic on curves of costs."""

import math
from itertools import combinations, product

import numpy as np
import pytest
from paretune_compress.sensitivity.allocation import cover, divide
from paretune_compress.sensitivity.curves import Curve, filled

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


def curve(size: int, scale: float, power: float = 4.0) -> Curve:
    """Cost `scale` at full amount, growing with a power of it."""
    return Curve(size, ((0.0, 0.0), *((level, scale * level**power) for level in LEVELS)))


MIXED = (curve(4000, 1.0), curve(1000, 1.0), curve(20_000, 3.0, 2.0), curve(500, 0.01), curve(9000, 0.2, 6.0))


def mean(curves, amounts) -> float:
    return sum(c.size * a for c, a in zip(curves, amounts, strict=True)) / sum(c.size for c in curves)


@pytest.mark.parametrize("level", [0.0, 0.05, 0.3, 0.5, 0.777, 0.95, 0.98])
def test_the_mean_over_all_weights_is_the_one_that_was_asked(level):
    assert mean(MIXED, divide(MIXED, level)) == pytest.approx(level, abs=1e-9)


def test_with_a_larger_budget_no_layer_gets_less():
    found = np.array([divide(MIXED, level) for level in np.linspace(0, 0.98, 99)])
    assert (np.diff(found, axis=0) >= -1e-12).all()


def test_a_layer_that_loses_little_gets_more_zeros():
    sensitive, flat = curve(1000, 1.0), curve(1000, 0.01)
    kept, pruned = divide([sensitive, flat], 0.4)
    assert pruned > 0.6
    assert kept < 0.2


def test_of_two_layers_with_equal_costs_the_larger_one_gets_more_zeros_as_each_costs_less():
    small, large = divide([curve(100, 1.0), curve(10_000, 1.0)], 0.5)
    assert large > small


def test_no_division_into_tenths_is_cheaper_than_the_one_found_for_convex_costs():
    curves = [curve(300, 1.0), curve(500, 0.3, 2.0), curve(200, 2.0, 5.0)]

    def cost(amounts):
        return sum(c.cost(a) for c, a in zip(curves, amounts, strict=True))

    for level in (0.2, 0.5, 0.7):
        found = cost(divide(curves, level))
        others = [a for a in product(LEVELS, repeat=3) if abs(mean(curves, a) - level) < 1e-9]
        assert others
        assert all(found <= cost(a) + 1e-12 for a in others)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_equal_layers_get_equal_amounts_and_so_do_layers_that_cost_nothing(scale):
    assert divide([curve(700, scale)] * 3, 0.37) == pytest.approx([0.37] * 3)


@pytest.mark.parametrize("level", [0.1, 0.33, 0.9])
def test_a_single_layer_gets_what_all_would_get(level):
    assert divide([curve(123, 5.0)], level) == pytest.approx([level])


def test_where_more_costs_no_more_the_hull_goes_straight_through():
    saturated = Curve(10, ((0.0, 0.0), (0.2, 0.1), (0.5, 4.0), (0.9, 4.1)))
    assert saturated.hull() == ((0.0, 0.0), (0.2, 0.1), (0.9, 4.1))
    assert Curve(10, ((0.0, 0.0), (0.5, 1.0), (1.0, 1.0))).hull() == ((0.0, 0.0), (1.0, 1.0))
    assert Curve(10, ((0.3, 0.5),)).hull() == ((0.3, 0.5),)


def test_costs_that_fall_are_noise_and_are_lifted():
    noisy = Curve(10, ((0.0, 0.0), (0.4, 2.0), (0.6, 1.5), (0.8, 3.0)))
    assert noisy.cost(0.6) == 2.0
    assert noisy.hull() == ((0.0, 0.0), (0.6, 2.0), (0.8, 3.0))


def test_a_layer_without_room_keeps_its_amount_and_the_others_make_up_for_it():
    fixed, free = curve(1000, 1.0).between(0.2, 0.2), curve(1000, 1.0)
    assert divide([fixed, free], 0.5) == pytest.approx([0.2, 0.8])


def test_what_lies_outside_the_curves_is_brought_to_their_ends():
    bounded = [c.between(0.1, 0.6) for c in MIXED]
    assert divide(bounded, 0.9) == pytest.approx([0.6] * 5)
    assert divide(bounded, 0.0) == pytest.approx([0.1] * 5)


def test_between_measured_points_the_logarithm_of_the_cost_runs_straight():
    found = filled([(0.4, 0.4**3), (0.8, 0.8**3)], (0.2, 0.4, 0.6, 0.8, 0.9), math.log)
    assert [cost for _, cost in found] == pytest.approx([0.2**3, 0.4**3, 0.6**3, 0.8**3, 0.9**3])
    (only,) = filled([(0.4, 0.25)], (0.9,), math.log)
    assert only == (0.9, 0.25)


# --- two formats: a knapsack --------------------------------------------------------------------------------

SIZES, COSTS = (2304, 2304, 4608, 9216, 18432, 36864, 2048), (9.0, 2.8, 3.5, 3.6, 2.2, 1.6, 0.2)


def covered(chosen) -> float:
    return sum(size for size, taken in zip(SIZES, chosen, strict=True) if taken) / sum(SIZES)


def paid(chosen) -> float:
    return sum(cost for cost, taken in zip(COSTS, chosen, strict=True) if taken)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.25, 0.5, 0.75, 0.875, 1.0])
def test_the_layers_that_hold_a_share_of_the_weights_are_the_cheapest_that_do(share):
    chosen = cover(SIZES, COSTS, share)
    assert covered(chosen) >= share - 7 / 4096
    every = [[i in some for i in range(7)] for n in range(8) for some in combinations(range(7), n)]
    cheapest = min(paid(c) for c in every if covered(c) >= share + 7 / 4096 or all(c))
    assert paid(chosen) <= cheapest + 1e-12


def test_a_larger_share_never_costs_less():
    prices = [paid(cover(SIZES, COSTS, share)) for share in np.linspace(0, 1, 60)]
    assert prices == sorted(prices)


def test_layers_that_cost_nothing_are_not_taken_without_need():
    assert cover([100, 100, 100], [0.0, 0.0, 0.0], 0.0) == [False] * 3
    assert sum(cover([100, 100, 100], [0.0, 0.0, 0.0], 0.3)) == 1
    assert cover([100], [5.0], 0.01) == [True]
