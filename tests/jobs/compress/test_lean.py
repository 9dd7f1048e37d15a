"""Files without what no interpreter needs."""

import copy

import numpy as np
from paretune_compress import flatbuffer as fb
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_compress.steps.lean import lean
from support.made_networks import Network, assert_same_outputs


def one_to_one():
    net = Network()
    x = net.input("x", (1, 6, 6, 3))
    unused = net.constant("unused", np.arange(100.0))
    y = net.dense("y", net.flatten("flat", net.conv("c", x, 8, 3)), 5)
    net.output(y)
    assert unused
    return net.model


def two_to_two():
    net = Network()
    a, b = net.input("first", (1, 4)), net.input("second", (1, 4))
    h = net.dense("h", net.add("sum", a, net.dense("side", b, 4)), 6)
    net.output(net.dense("left", h, 2), net.dense("right", h, 3))
    return net.model


def saved(model, path):
    """With a signature, as a converter writes it."""
    builder = Network()
    builder.model, builder.graph = model, model.subgraphs[0]
    return fb.read(builder.save(path))


def test_the_same_outputs_come_out_of_fewer_bytes(tmp_path):
    before = saved(one_to_one(), tmp_path / "a.tflite")
    after = copy.deepcopy(before)
    lean(after)
    assert_same_outputs(before, after, tmp_path)
    assert len(fb.pack(after)) < len(fb.pack(before)) - 400  # the unused constant is gone, too
    assert after.signatureDefs is None
    assert not any(fb.tensor_name(t) for t in after.subgraphs[0].tensors)


def test_doing_it_twice_changes_nothing(tmp_path):
    model = saved(one_to_one(), tmp_path / "a.tflite")
    lean(model)
    once = fb.pack(model)
    lean(model)
    assert fb.pack(model) == once


def test_several_inputs_and_outputs_keep_their_names_and_signature(tmp_path):
    before = saved(two_to_two(), tmp_path / "a.tflite")
    after = copy.deepcopy(before)
    lean(after)
    assert_same_outputs(before, after, tmp_path)
    fb.write(after, tmp_path / "lean.tflite")
    interpreter = open_interpreter(tmp_path / "lean.tflite", threads=1)
    assert [d["name"] for d in interpreter.get_input_details()] == ["first", "second"]
    (signature,) = interpreter.get_signature_list().values()
    assert sorted(signature["inputs"]) == ["first", "second"]
    values = [np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)]
    by_place = run_interpreter(interpreter, values)
    by_name = interpreter.get_signature_runner()(first=values[0], second=values[1])
    assert any(np.array_equal(by_place[0], y) for y in by_name.values())
