import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.graph import describe
from paretune_contract.failure import Reason, StageError
from support.made_tflite import ModelBuilder, convolution, image_classifier, options


def test_packing_is_canonical(tmp_path):
    data = image_classifier(tmp_path / "m.tflite").read_bytes()
    assert fb.pack(fb.load(data)) == data
    assert data[4:8] == b"TFL3"


@pytest.mark.parametrize("n", [6, 7])
def test_four_bit_integers_survive_a_round_trip(n):
    b = ModelBuilder()
    index = b.constant("w", np.zeros(n), "int32")
    b.graph.tensors[index].type = fb.schema.TensorType.INT4
    values = np.array([-8, 7, -1, 0, 3, -7, 5], np.int8)[:n]
    fb.set_constant(b.model, index, values)
    model = fb.load(fb.pack(b.model))
    assert len(model.buffers[model.subgraphs[0].tensors[index].buffer].data) == (n + 1) // 2
    assert fb.constant(model, index).tolist() == values.tolist()


def test_overwriting_a_constant_leaves_others_that_share_its_bytes_alone(tmp_path):
    b = ModelBuilder()
    first, second = b.constant("a", np.zeros(3)), b.constant("b", np.zeros(3))
    b.graph.tensors[second].buffer = b.graph.tensors[first].buffer
    fb.set_constant(b.model, first, np.ones(3, np.float32))
    assert fb.constant(b.model, first).tolist() == [1, 1, 1]
    assert fb.constant(b.model, second).tolist() == [0, 0, 0]


def test_a_constant_of_another_shape_or_type_is_refused():
    b = ModelBuilder()
    index = b.constant("a", np.zeros(3))
    with pytest.raises(ValueError, match="float32"):
        fb.set_constant(b.model, index, np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="float64"):
        fb.set_constant(b.model, index, np.zeros(3))


@pytest.mark.parametrize("damage", [lambda d: b"PK" + d[2:8], lambda d: d[: len(d) // 8], lambda d: d[:4]])
def test_bytes_that_are_no_model_are_refused(tmp_path, damage):
    data = damage(image_classifier(tmp_path / "m.tflite").read_bytes())
    with pytest.raises(StageError, match=r"bad\.tflite") as error:
        fb.load(data[:4] + b"XXXX" if len(data) == 8 else data, "bad.tflite")
    assert error.value.reason is Reason.MODEL_UNREADABLE


def test_a_description_counts_layers_parameters_and_macs(tmp_path):
    found = describe(image_classifier(tmp_path / "m.tflite"))
    assert [layer.name for layer in found.layers] == ["stem", "depthwise", "pointwise", "hidden", "last"]
    assert [layer.macs for layer in found.layers] == [64 * 576, 64 * 144, 64 * 1024, 2048, 96]
    assert found.parameters == (576 + 16) + (144 + 16) + (1024 + 64) + (2048 + 32) + (96 + 3)
    assert [layer.prunable for layer in found.layers] == [True, False, True, True, False]
    assert [layer.int4 for layer in found.layers] == [True, False, True, True, True]
    assert found.untrainable == ()


def test_what_cannot_be_trained_is_named_with_its_variant(tmp_path):
    b = ModelBuilder()
    x = b.input("x", (1, 4, 4, 8))
    w, c = b.constant("w", np.zeros((8, 1, 1, 4))), b.constant("b", np.zeros(8))
    (x,) = b.operator("CONV_2D", [x, w, c], [("grouped", (1, 4, 4, 8))], convolution())
    shape = b.constant("s", [16, 8], "int32")
    (x,) = b.operator("RESHAPE", [x, shape], [("flat", (16, 8))], options("ReshapeOptions"))
    (x,) = b.operator("FLOOR", [x], [("floor", (16, 8))])
    b.output(x)
    found = describe(b.save(tmp_path / "m.tflite"))
    assert found.untrainable == ("CONV_2D (groups)", "RESHAPE (moves the batch axis)", "FLOOR")
    assert not any(layer.trainable for layer in found.layers)
