"""Each operator as a TensorFlow function gives what the runtime gives, and passes a gradient."""

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.graph.description import untrainable
from paretune_compress.graph.function import GraphFunction
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_contract.failure import Reason, StageError
from support.made_operators import CASES, SHAPE, model_of, plain
from support.made_tflite import ModelBuilder, options

pytestmark = pytest.mark.tensorflow
rng = np.random.default_rng(7)


@pytest.fixture(autouse=True, scope="module")
def deterministic_operations():
    """As in training: an operator without a deterministic gradient would raise."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


@pytest.mark.parametrize("case", CASES)
def test_the_function_equals_the_runtime_on_a_batch_and_every_weight_has_a_gradient(case, tmp_path):
    import tensorflow as tf

    path = model_of(CASES[case], tmp_path / "model.tflite")
    model = fb.read(path)
    assert untrainable(model) == ()
    function = GraphFunction(model)
    x = np.random.default_rng(1).normal(0, 1, (3, *SHAPE[1:])).astype(np.float32)
    weights = {i: tf.Variable(w) for i, w in function.weights.items()}
    with tf.GradientTape() as tape:
        outputs = function(weights, [tf.constant(x)])
        loss = tf.add_n([tf.reduce_sum(tf.sin(3.0 * y)) for y in outputs.values])
    gradients = tape.gradient(loss, list(weights.values()))
    interpreter = open_interpreter(path, threads=1)
    expected = [run_interpreter(interpreter, [x[i : i + 1]])[0] for i in range(3)]
    np.testing.assert_allclose(outputs.values[0].numpy(), np.concatenate(expected), rtol=1e-4, atol=1e-5)
    assert all(g is not None and np.isfinite(g.numpy()).all() for g in gradients)
    assert all(np.abs(g.numpy()).max() > 0 for g in gradients)


def test_several_inputs_and_outputs_keep_their_order(tmp_path):
    import tensorflow as tf

    b = ModelBuilder()
    left, right = b.input("left", (1, 4)), b.input("right", (1, 4))
    w = b.constant("w", rng.normal(0, 1, (4, 4)))
    (a,) = b.operator("FULLY_CONNECTED", [right, w], [("a", (1, 4))], options("FullyConnectedOptions"))
    (c,) = b.operator("SUB", [left, a], [("c", (1, 4))], options("SubOptions"))
    b.output(c, a)
    path = b.save(tmp_path / "two.tflite")
    function = GraphFunction(fb.read(path))
    x, y = (rng.normal(0, 1, (1, 4)).astype(np.float32) for _ in range(2))
    found = function({i: tf.constant(v) for i, v in function.weights.items()}, [x, y]).values
    expected = run_interpreter(open_interpreter(path, threads=1), [x, y])
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5, atol=1e-6)


def test_a_model_with_an_operator_without_gradient_is_refused_by_name(tmp_path):
    path = model_of(plain("FLOOR"), tmp_path / "floor.tflite")
    with pytest.raises(StageError, match="FLOOR") as error:
        GraphFunction(fb.read(path))
    assert error.value.reason is Reason.STEP_FAILED
