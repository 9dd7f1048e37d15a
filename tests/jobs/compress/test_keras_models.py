"""A float .tflite as a Keras model gives what the runtime gives, or its operators are named."""

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.graph.function import GraphFunction
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_compress.train.tfmot.keras_model import KerasGraph, without_layers
from paretune_contract.failure import Reason, StageError
from support.made_operators import CASES, SHAPE, model_of

pytestmark = pytest.mark.tensorflow
KNOWN = {
    "conv", "conv, stride 2, relu", "conv, valid", "depthwise", "depthwise, multiplier 2", "dense",
    "dense over the last axis", "max pool", "average pool", "average pool, valid", "mean",
    "add a channel vector", "subtract, relu", "multiply by columns", "residual, relu6", "relu", "relu6",
    "leaky relu", "logistic", "tanh", "reshape", "reshape to a computed shape", "squeeze", "expand",
    "concatenate", "pad", "transpose",
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(KNOWN))
def test_the_model_equals_the_runtime_on_a_batch_and_gives_its_weights_back(case, tmp_path):
    path = model_of(CASES[case], tmp_path / "model.tflite")
    model = fb.read(path)
    assert without_layers(model) == ()
    function = GraphFunction(model)
    graph = KerasGraph(model, function)
    built = graph.build(function.weights)
    x = np.random.default_rng(1).normal(0, 1, (3, *SHAPE[1:])).astype(np.float32)
    answers = np.asarray(graph.outputs(built.model, [x], training=False).values[0])
    interpreter = open_interpreter(path, threads=1)
    expected = np.concatenate([run_interpreter(interpreter, [x[i : i + 1]])[0] for i in range(3)])
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)
    found = {}
    for name, place in built.weights.items():
        layer = built.model.get_layer(name)
        found[place.kernel] = place.from_keras(getattr(layer, place.attribute).numpy())
        if place.bias is not None:
            found[place.bias] = layer.bias.numpy()
    assert found.keys() == function.weights.keys()
    assert all(np.array_equal(found[i], w) and found[i].shape == w.shape for i, w in function.weights.items())


@pytest.mark.parametrize("case", sorted(set(CASES) - KNOWN))
def test_an_operator_without_a_layer_is_named_with_the_trainer_that_has_one(case, tmp_path):
    model = fb.read(model_of(CASES[case], tmp_path / "model.tflite"))
    (operator, *_) = without_layers(model)
    assert operator.split(" ")[0] in {fb.operator_name(model, op) for op in model.subgraphs[0].operators}
    with pytest.raises(StageError, match=r"training\.trainer: file trains this model") as caught:
        KerasGraph(model, GraphFunction(model))
    assert operator in caught.value.message
    assert caught.value.reason is Reason.STEP_FAILED


def test_a_softmax_at_the_end_is_left_to_the_loss(tmp_path):
    from support.made_tflite import image_classifier

    model = fb.read(image_classifier(tmp_path / "model.tflite"))
    function = GraphFunction(model)
    graph = KerasGraph(model, function)
    built = graph.build(function.weights)
    outputs = graph.outputs(built.model, [np.ones((2, 8, 8, 4), np.float32)], training=False)
    assert not any("softmax" in layer.name for layer in built.model.layers)
    np.testing.assert_allclose(np.sum(outputs.values[0], axis=-1), 1, rtol=1e-5)
    assert np.abs(np.sum(outputs.logits[0], axis=-1) - 1).max() > 0.01


def test_weights_that_two_operators_share_are_left_to_the_other_trainer(tmp_path):
    from support.made_tflite import ModelBuilder, convolution

    b = ModelBuilder()
    x = b.input("x", SHAPE)
    w = b.constant("w", np.ones((4, 1, 1, 4)))
    for name in ("first", "second"):
        (x,) = b.operator("CONV_2D", [x, w], [(name, SHAPE)], convolution())
    b.output(x)
    model = fb.read(b.save(tmp_path / "model.tflite"))
    assert without_layers(model) == ("CONV_2D (shared or computed weights)",)
