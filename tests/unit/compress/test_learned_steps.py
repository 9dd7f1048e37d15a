"""Which tensors are trained as integers, their first steps, and how grids travel."""

import numpy as np
import pytest
from paretune_compress.layers import resolve_layers
from paretune_compress.steps.grids import grids_of_channels, read_grids, write_grids
from paretune_compress.steps.weight_ranges import best_range
from paretune_compress.train.learned_steps import FINEST, IntegerFormat, first_step, integer_formats
from paretune_contract.settings import Settings
from support.made_layers import layer

DEPTHWISE = layer(
    "depthwise", "DEPTHWISE_CONV_2D", (1, 3, 3, 64), weight_tensor=2, prunable=False, clusterable=False,
    int4=False,
)  # fmt: skip
BODY, HEAD = layer("body", weight_tensor=3), layer("head", "FULLY_CONNECTED", (10, 64), weight_tensor=4)
LAYERS = (DEPTHWISE, BODY, HEAD)


def formats(of=LAYERS, **settings):
    return integer_formats(resolve_layers(Settings.model_validate(settings), of))


def aware(scheme, **more):
    return {"quantization": {"scheme": scheme, "training": "aware", **more}}


@pytest.mark.parametrize("scheme", ["dynamic", "int8", "int16x8"])
def test_eight_bits_with_a_step_for_each_output_channel(scheme):
    assert formats(**aware(scheme)) == {i: IntegerFormat(8, 3 if i == 2 else 0) for i in (2, 3, 4)}


def test_four_bits_where_the_layer_takes_them():
    assert {i: f.bits for i, f in formats(**aware("int4")).items()} == {2: 8, 3: 4, 4: 4}
    assert (IntegerFormat(4, 0).largest, IntegerFormat(8, 0).largest) == (7, 127)


def test_one_step_for_a_tensor_where_asked_and_where_clusters_are_trained():
    assert {f.axis for f in formats(**aware("int8", granularity="tensor")).values()} == {None}
    clustered = formats(**aware("int8"), clustering={"stage": "training", "clusters": 8})
    assert {i: f.axis for i, f in clustered.items()} == {2: 3, 3: None, 4: None}
    afterwards = formats(**aware("int8"), clustering={"stage": "int8", "clusters": 8})
    assert {i: f.axis for i, f in afterwards.items()} == {2: 3, 3: 0, 4: 0}


def test_nothing_is_trained_as_integers_unless_it_is_asked_and_there_are_some():
    assert formats(quantization={"scheme": "int8"}) == {}
    assert formats(**aware("float16")) == {}
    override = {"match": "head", "quantization": {"scheme": "none"}}
    assert set(formats(**aware("int8"), layers=[override])) == {2, 3}
    assert set(formats([BODY, layer("frozen", weight_tensor=9, trainable=False)], **aware("int8"))) == {3}


def test_a_tensor_that_two_layers_share_is_trained_only_where_both_store_it_alike():
    shared = (BODY, layer("again", weight_tensor=3))
    assert set(formats(shared, **aware("int8"))) == {3}
    override = {"match": "again", "quantization": {"scheme": "int4", "training": "aware"}}
    assert formats(shared, **aware("int8"), layers=[override]) == {}


def test_eight_bits_reach_to_the_largest_weight_and_four_to_where_least_is_lost():
    weights = np.random.default_rng(1).laplace(0, 1, (4, 50)).astype(np.float32)
    largest = np.abs(weights).max(axis=1, keepdims=True)
    np.testing.assert_allclose(first_step(weights, IntegerFormat(8, 0)), largest / 127, rtol=1e-6)
    four = first_step(weights, IntegerFormat(4, 0))
    np.testing.assert_allclose(four, best_range(weights, 4, 0) / 7, rtol=1e-6)
    assert (four < largest / 7).any()
    assert first_step(weights, IntegerFormat(8, None)).shape == (1, 1)


def test_a_dead_channel_has_a_step_that_leaves_its_bias_room():
    weights = np.random.default_rng(1).normal(0, 1, (1, 3, 3, 4)).astype(np.float32)
    weights[..., 2] = 0
    steps = first_step(weights, IntegerFormat(8, 3)).reshape(-1)
    assert steps[2] == pytest.approx(np.abs(weights).max() * FINEST / 127)
    assert (first_step(np.zeros((2, 3), np.float32), IntegerFormat(4, 0)) > 0).all()


def test_grids_read_back_as_they_were_written_and_numbers_count_as_lists_of_one(tmp_path):
    path = tmp_path / "grids.json"
    steps = [float(s) for s in np.random.default_rng(0).random(5).astype(np.float32)]
    write_grids(path, {7: steps, 3: [0.25]})
    assert {i: list(s) for i, s in read_grids(path).items()} == {3: [0.25], 7: steps}
    path.write_text('{"3": 0.25}\n')
    assert list(read_grids(path)[3]) == [0.25]


def test_steps_of_removed_channels_go_with_them():
    grids = {1: np.array([1.0, 2.0, 3.0]), 2: np.array([0.5]), 3: np.array([4.0, 5.0])}
    kept = {1: np.array([0, 2]), 2: np.array([1])}
    assert grids_of_channels(grids, kept) == {1: [1.0, 3.0], 2: [0.5], 3: [4.0, 5.0]}
