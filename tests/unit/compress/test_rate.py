"""Bits that a coder would pay, and the price that steers to a budget."""

import math

import numpy as np
import pytest
from paretune_compress.train.rate.bits import as_matrix, prices
from paretune_compress.train.rate.integers import first_grids, short
from paretune_compress.train.rate.steering import FREEZE, Steering, frozen


def integers(shape, share, seed=0, largest=5):
    rng = np.random.default_rng(seed)
    values = rng.integers(1, largest + 1, shape) * rng.choice([-1, 1], shape)
    return (values * (rng.random(shape) < share)).astype(np.int32)


def bits(q):
    return prices(q, 127).total(q)


def test_the_price_of_random_integers_is_near_their_entropy():
    q = integers((200, 300), 0.2)
    zero_or_not = -0.2 * math.log2(0.2) - 0.8 * math.log2(0.8)
    entropy = q.size * (zero_or_not + 0.2 * (1 + math.log2(5)))
    assert bits(q) == pytest.approx(entropy, rel=0.03)


def test_zeros_that_fill_rows_and_columns_are_cheaper_than_zeros_anywhere():
    scattered = integers((100, 100), 0.25)
    packed = np.zeros_like(scattered)
    packed[:50, :50] = integers((50, 50), 1.0)
    assert np.count_nonzero(packed) == pytest.approx(np.count_nonzero(scattered), rel=0.1)
    assert bits(packed) < 0.75 * bits(scattered)


def test_a_weight_in_a_dense_row_costs_less_to_keep_than_one_in_an_empty_row():
    q = np.zeros((10, 400), np.int32)
    q[0] = 1
    q[1:, ::40] = 1
    found = prices(q, 127)
    assert found.significant[0, 1] < found.significant[5, 1]
    assert found.zero[5, 1] < found.zero[0, 1]


def test_levels_that_do_not_occur_keep_a_finite_price():
    found = prices(integers((20, 20), 0.5, largest=2), 127)
    assert np.isfinite(found.magnitude).all()
    assert found.magnitude[0] == 0
    assert found.magnitude[1] < found.magnitude[40]


@pytest.mark.parametrize(
    "q", [np.zeros((4, 5), np.int32), np.full((4, 5), 3, np.int32), np.zeros(7, np.int32)]
)
def test_uniform_tensors_have_finite_prices(q):
    assert 0 <= bits(q) < 3 * q.size


def test_depthwise_weights_have_their_channels_in_columns():
    assert as_matrix(np.zeros((1, 3, 3, 16))).shape == (9, 16)
    assert as_matrix(np.zeros((8, 3, 3, 16))).shape == (8, 144)


@pytest.mark.parametrize(("lag", "target"), [(0.002, 50_000), (0.01, 200_000), (0.03, 1_000_000)])
def test_the_price_leads_bits_that_follow_slowly_to_the_target(lag, target):
    """A training as a leaky response: bits fall in proportion to the price, and rise without one."""
    present, first, steps = 8.0 * target, 8.0 * target, 400
    steering = Steering(first=first, target=target)
    settled = 2.0 / target
    for step in range(steps):
        progress = step / steps
        price = steering.price(present, progress)
        if frozen(progress):
            break
        present *= math.exp(lag * (1 - price / settled) if price < 8 * settled else -7 * lag)
    assert present == pytest.approx(target, rel=0.25)


def test_when_zeros_are_fixed_the_price_falls():
    steering = Steering(first=1e6, target=1e5)
    for step in range(30):
        price = steering.price(5e5, step / 100)
    assert steering.price(5e5, FREEZE) < price
    assert not frozen(FREEZE - 0.01)


def test_fewer_bits_begin_with_coarser_steps_and_steps_reach_the_largest_weight():
    weights = {3: np.random.default_rng(0).normal(0, 0.1, (64, 64)).astype(np.float32)}
    coarse, fine = (first_grids(weights, (3,), (), b)[3] for b in (0.2, 3.0))
    assert coarse.step > 2 * fine.step
    weights[3][0, 0] = 40.0
    outlier = first_grids(weights, (3,), (), 3.0)[3]
    assert outlier.step * outlier.largest >= 40.0


@pytest.mark.parametrize("step", [1e-5, 0.013, 0.9999, 1.0, 37.2])
def test_a_short_step_has_eight_bits_of_mantissa_and_is_near(step):
    mantissa, _ = math.frexp(short(step))
    assert (mantissa * 256).is_integer()
    assert short(step) == pytest.approx(step, rel=1 / 256)
