"""Fine-tuning of weights as the integers that quantization makes of them, on a small made model."""

from pathlib import Path

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress, splits_to_read
from paretune_compress.graph.description import weighted_operators
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_compress.steps.grids import GRIDS, read_grids, write_integers
from paretune_compress.train.learned_steps import GROWTH, IntegerFormat, LearnedSteps
from paretune_contract.dataset import Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.training import Optimizer, Training
from paretune_store.known_steps import KnownSteps
from support.made_requests import Workplace
from support.trained import aware, by_layer, folder_of_training, integer_weights, step, training_key

pytestmark = pytest.mark.tensorflow
SHORT = Training(epochs=4, batch_size=32, learning_rate=1e-3)
ONE = Training(epochs=1, batch_size=64)
HALF = {"pattern": "unstructured", "level": 0.6}
CLUSTERS = {"stage": "training", "clusters": 6}
DENSE = ("stem", "pointwise", "hidden")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"), samples=640, train=True)


# --- what is gained ----------------------------------------------------------------------------------------


def test_weights_trained_as_four_bits_keep_far_more_answers_than_weights_rounded_to_them(workplace):
    rounded = compress(workplace.request({"quantization": {"scheme": "int4"}}, SHORT))
    trained = compress(workplace.request(aware("int4"), SHORT))
    assert trained.metrics["accuracy"].value > rounded.metrics["accuracy"].value + 0.1
    assert trained.inspection.dtypes == rounded.inspection.dtypes
    assert "train-file" in [s.name for s in trained.steps]


# --- what stands in the file -------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("scheme", ["dynamic", "int8", "int16x8", "int4"])
def test_the_file_holds_the_very_integers_and_steps_that_were_trained(workplace, scheme, granularity):
    request = workplace.request(aware(scheme, granularity), SHORT)
    result = compress(request)
    folder = folder_of_training(request)
    grids, trained = read_grids(folder / GRIDS), fb.read(folder / "model.tflite")
    floats = weighted_operators(trained)
    assert len(grids) == len(floats) == len(result.inspection.tensors)
    for before, (integers, scales, tensor) in zip(floats, integer_weights(result.artifact.path), strict=True):
        weights = fb.constant(trained, before.tensors[0])
        assert np.array_equal((integers * scales.astype(np.float64)).astype(np.float32), weights)
        assert np.array_equal(fb.scales(tensor), grids[before.tensors[0]].astype(np.float32))
        assert np.abs(integers).max() <= (7 if fb.type_name(tensor) == "INT4" else 127)
        per_channel = granularity == "channel" or (before.operator, scheme) == (
            "DEPTHWISE_CONV_2D",
            "dynamic",
        )
        channels = weights.shape[-1 if before.operator == "DEPTHWISE_CONV_2D" else 0]
        assert len(fb.scales(tensor)) == (channels if per_channel else 1)
    assert result.metrics["accuracy"].value > 0.6


@pytest.mark.parametrize(("scheme", "most"), [("int16x8", 0.002), ("int8", 0.06)])
def test_the_file_answers_as_the_network_that_was_trained(workplace, scheme, most):
    request = workplace.request(aware(scheme), SHORT)
    finished = open_interpreter(Path(compress(request).artifact.path), threads=1)
    trained = open_interpreter(folder_of_training(request) / "model.tflite", threads=1)
    rng = np.random.default_rng(7)
    samples = [rng.normal(0, 1, (1, 8, 8, 4)).astype(np.float32) for _ in range(40)]
    differences = [
        np.abs(run_interpreter(finished, [x])[0] - run_interpreter(trained, [x])[0]).max() for x in samples
    ]
    assert np.mean(differences) < most


def test_names_and_ranges_of_activations_are_the_quantizers(workplace):
    result = compress(workplace.request(aware("int8", "tensor"), SHORT))
    model = fb.read(Path(result.artifact.path))
    assert model.signatureDefs
    tensors = model.subgraphs[0].tensors
    assert all(fb.tensor_name(t) for t in tensors)
    scales = np.array([fb.scales(t)[0] for i, t in enumerate(tensors) if not fb.is_constant(model, i)
                       and len(fb.scales(t))])  # fmt: skip
    assert not np.array_equal(np.exp2(np.rint(np.log2(scales))), scales)


def test_int8_inputs_go_with_it(workplace):
    settings = aware("int8", "tensor")
    settings["quantization"]["io"] = "int8"
    result = compress(workplace.request(settings, SHORT))
    assert (result.inspection.inputs, result.inspection.outputs) == (("INT8",), ("INT8",))
    assert step(result, "train-file").cached or result.metrics["accuracy"].value > 0.6


# --- together with zeros and clusters ----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_zeros_stay_zeros(workplace, scheme):
    found = by_layer(compress(workplace.request(aware(scheme, sparsity=HALF), SHORT)))
    assert all(found[name].zeros >= 0.59 for name in DENSE)
    assert found["pointwise"].scales > 1
    assert found["last"].zeros < 0.2


def test_two_of_four_holds(workplace):
    found = by_layer(compress(workplace.request(aware("int4", sparsity={"pattern": "2:4"}), ONE)))
    assert all(found[name].two_of_four for name in DENSE)


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_clusters_become_at_most_as_many_integers(workplace, scheme):
    result = compress(workplace.request(aware(scheme, clustering=CLUSTERS), SHORT))
    found = by_layer(result)
    assert all(1 < found[name].distinct <= 6 and found[name].scales == 1 for name in DENSE)
    assert found["depthwise"].distinct > 6
    assert found["depthwise"].scales == 16


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_zero_is_one_of_the_clusters_of_a_sparse_network(workplace, scheme):
    result = compress(workplace.request(aware(scheme, sparsity=HALF, clustering=CLUSTERS), SHORT))
    weights = [integers for integers, _, _ in integer_weights(result.artifact.path)]
    for layer, integers in zip(result.inspection.tensors, weights, strict=True):
        if layer.layer in DENSE:
            values = np.unique(integers)
            assert len(values) <= 6
            assert 0 in values
            assert layer.zeros >= 0.59


def test_channels_that_die_take_their_steps_along(workplace):
    sparse = {"pattern": "unstructured", "level": 0.93}
    request = workplace.request(aware("int8", sparsity=sparse), ONE)
    result = compress(request)
    full = read_grids(folder_of_training(request) / GRIDS)
    left = [len(fb.scales(t)) for _, _, t in integer_weights(result.artifact.path)]
    trained = [len(full[layer.weight_tensor]) for layer in request.model.layers]
    assert sum(left) < sum(trained)
    assert all(a <= b for a, b in zip(left, trained, strict=True))


def test_integers_are_clustered_afterwards_where_that_is_asked(workplace):
    stage = {"stage": "int8", "clusters": 5}
    result = compress(workplace.request(aware("int8", clustering=stage), SHORT))
    assert all(by_layer(result)[name].distinct <= 5 for name in DENSE)


def test_an_override_trains_the_integers_of_its_layers_alone(workplace):
    settings = {
        "quantization": {"scheme": "int8"},
        "layers": [{"match": "^pointwise$", "quantization": {"scheme": "int4", "training": "aware"}}],
    }
    request = workplace.request(settings, ONE)
    result = compress(request)
    layer = next(one for one in request.model.layers if one.name == "pointwise")
    assert set(read_grids(folder_of_training(request) / GRIDS)) == {layer.weight_tensor}
    found = by_layer(result)
    assert {name: t.dtype for name, t in found.items() if t.dtype != "INT8"} == {"pointwise": "INT4"}


# --- what is trained anew ----------------------------------------------------------------------------------


def test_one_training_serves_the_schemes_that_store_weights_alike_and_no_others(workplace, tmp_path):
    asked = [aware("int8"), aware("int16x8"), aware("dynamic"), aware("int8", "tensor"), aware("int4")]
    requests = [workplace.request(settings, ONE, cache=str(tmp_path)) for settings in asked]
    cached = [step(compress(request), "train-file").cached for request in requests]
    assert cached == [False, True, True, False, False]


def test_without_it_the_trained_network_is_known_by_what_it_was_known_by_before(workplace):
    plain = training_key(workplace.request({"sparsity": HALF, "quantization": {"scheme": "int4"}}, SHORT))
    assert "integers" not in plain
    names = [layer.name for layer in workplace.model.layers]
    assert dict(zip(names, plain["layers"], strict=True))["stem"] == [
        workplace.model.layers[names.index("stem")].weight_tensor,
        "unstructured",
        0.6,
        0,
    ]
    trained = training_key(workplace.request(aware("int4", sparsity=HALF), SHORT))
    integers = trained.pop("integers")
    assert trained == plain
    tensors = {layer.name: str(layer.weight_tensor) for layer in workplace.model.layers}
    assert (integers[tensors["pointwise"]], integers[tensors["depthwise"]]) == ([4, 0], [8, 3])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(workplace, tmp_path):
    shas = [
        compress(
            workplace.request(aware("int4"), ONE, cache=str(tmp_path / str(n)), seed=seed)
        ).artifact.sha256
        for n, seed in enumerate((3, 3, 4))
    ]
    assert shas[0] == shas[1] != shas[2]


def test_gradient_descent_with_momentum_trains_integers_too(workplace):
    training = Training(epochs=2, batch_size=32, learning_rate=4e-3, optimizer=Optimizer.SGD)
    request = workplace.request(aware("int4"), training)
    result = compress(request)
    rounded = compress(workplace.request({"quantization": {"scheme": "int4"}}, SHORT))
    assert result.metrics["accuracy"].value > rounded.metrics["accuracy"].value


# --- errors ------------------------------------------------------------------------------------------------


def test_without_a_train_split_the_cause_is_named(tmp_path):
    bare = Workplace(tmp_path, samples=40)
    with pytest.raises(StageError, match=r"quantization\.training is aware.*dataset\.train") as caught:
        compress(bare.request(aware("int8")))
    assert caught.value.reason is Reason.STEP_FAILED


def test_a_pod_reads_the_train_split_only_while_the_training_is_unknown(workplace, tmp_path):
    request = workplace.request(aware("int4"), SHORT)
    empty = request.model_copy(update={"cache": str(tmp_path)})
    assert splits_to_read(empty, KnownSteps(tmp_path, lambda _: None)) == frozenset(
        {Split.TRAIN, Split.CALIBRATION, Split.EVALUATION}
    )
    compress(request)
    assert not splits_to_read(request, KnownSteps(Path(request.cache), lambda _: None))


def test_steps_that_do_not_fit_the_quantized_tensor_are_refused(workplace):
    request = workplace.request(aware("int8"), SHORT)
    compress(request)
    folder = folder_of_training(request)
    source, grids = fb.read(folder / "model.tflite"), read_grids(folder / GRIDS)
    tensorwise = {"quantization": {"scheme": "int8", "granularity": "tensor"}}
    made = fb.read(Path(compress(workplace.request(tensorwise, SHORT)).artifact.path))
    with pytest.raises(StageError, match="16 steps, and the quantized tensor has 1 scales") as caught:
        write_integers(made, source, grids)
    assert caught.value.reason is Reason.INTERNAL
    coarser = {i: steps * 1.5 for i, steps in grids.items()}
    own = fb.read(Path(compress(request).artifact.path))
    with pytest.raises(StageError, match="no multiples of"):
        write_integers(own, source, coarser)


# --- gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0])
def test_gradients_are_those_of_learned_step_size_quantization(axis):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (3, 40)).astype(np.float32)
    upstream = rng.normal(0, 1, values.shape).astype(np.float32)
    steps = LearnedSteps({1: IntegerFormat(4, axis)}, {1: values.shape})
    steps.begin({1: values})
    (growth,) = steps.variables
    weights = tf.Variable(values)
    with tf.GradientTape() as tape:
        rounded = steps.rounded(1, weights)
        loss = tf.reduce_sum(rounded * upstream)
    to_weights, to_growth = (np.asarray(g) for g in tape.gradient(loss, [weights, growth]))
    step = np.array(steps.steps()[1], np.float32).reshape(growth.shape)
    ratio = values / step
    inside = np.abs(ratio) <= 7
    assert 0 < np.mean(~inside) < 0.2
    np.testing.assert_allclose(rounded, np.clip(np.rint(ratio), -7, 7) * step, rtol=1e-6)
    np.testing.assert_allclose(steps.on_grid(1, values), rounded, rtol=1e-6)
    np.testing.assert_allclose(to_weights, upstream * inside, rtol=1e-6)
    own = np.where(inside, np.rint(ratio) - ratio, np.sign(ratio) * 7)
    group = (0, 1) if axis is None else 1
    share = 1 / np.sqrt(values.size / step.size * 7)
    # The step is trained in the logarithm: one more factor of itself.
    expected = np.sum(upstream * own, axis=group, keepdims=True) * share * step * GROWTH
    np.testing.assert_allclose(to_growth, expected, rtol=1e-3, atol=1e-5)


def test_nothing_is_rounded_before_it_begins():
    values = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    steps = LearnedSteps({1: IntegerFormat(4, 0)}, {1: values.shape})
    assert np.array_equal(np.asarray(steps.rounded(1, values)), values)
    assert np.array_equal(steps.on_grid(1, values), values)
    assert steps.steps() == {}
