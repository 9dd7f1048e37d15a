"""Channels without effect leave the file; what it computes stays."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from paretune_compress import flatbuffer as fb
from paretune_compress.graph.description import describe_model
from paretune_compress.inspection import inspect
from paretune_compress.shrink import shrink
from paretune_compress.shrink.verification import must_agree, random_samples
from paretune_contract.failure import Reason, StageError
from support.made_networks import (
    CLIPPED,
    NONE,
    RELU6,
    SAME,
    VALID,
    Network,
    assert_same_outputs,
    named,
)
from support.made_tflite import options


def test_a_hidden_unit_that_nothing_reads_is_removed(tmp_path):
    net = Network()
    x = net.input("x", (1, 10))
    a = net.dense("a", x, 8)
    b = net.dense("b", a, 6)
    net.zero_columns("b", [1, 5])
    model = net.finish(net.dense("c", b, 3, act=NONE))
    shrunk = shrink(model)
    assert shrunk.removed == 2
    assert named(shrunk.model, "a/w").shape == (6, 10)
    np.testing.assert_array_equal(named(shrunk.model, "b/w"), named(model, "b/w")[:, [0, 2, 3, 4, 6, 7]])
    assert named(shrunk.model, "a") == (1, 6)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_the_result_says_what_stayed_and_what_it_costs():
    net = Network()
    x = net.input("x", (1, 10))
    a = net.dense("a", x, 8)
    c = net.dense("c", a, 3)
    net.zero_columns("c", [1, 5])
    model = net.finish(c)
    shrunk = shrink(model)
    kernel = int(model.subgraphs[0].operators[0].inputs[1])
    reader = int(model.subgraphs[0].operators[1].inputs[1])
    assert shrunk.kept[kernel].rows.tolist() == [0, 2, 3, 4, 6, 7]
    assert shrunk.kept[kernel].columns.tolist() == list(range(10))
    assert shrunk.kept[reader].rows.tolist() == [0, 1, 2]
    assert shrunk.kept[reader].columns.tolist() == [0, 2, 3, 4, 6, 7]
    assert (shrunk.before.macs, shrunk.after.macs) == (80 + 24, 60 + 18)
    assert (shrunk.before.parameters, shrunk.after.parameters) == (88 + 27, 66 + 21)


def test_a_unit_without_weights_becomes_part_of_the_next_bias(tmp_path):
    net = Network()
    a = net.dense("a", net.input("x", (1, 10)), 8)
    c = net.dense("c", a, 3, act=NONE)
    net.zero_rows("a", [0, 2], bias=0.7)
    net.zero_rows("a", [3], bias=-0.7)  # behind the activation this is zero
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 3
    expected = named(model, "c/b") + 0.7 * named(model, "c/w")[:, [0, 2]].sum(axis=1)
    np.testing.assert_allclose(named(shrunk.model, "c/b"), expected, rtol=1e-6)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_bias_is_added_where_a_constant_needs_one(tmp_path):
    net = Network()
    a = net.dense("a", net.input("x", (1, 10)), 8)
    b = net.dense("b", a, 5, act=NONE, bias=False)
    net.zero_rows("a", [4], bias=1.5)
    c = net.dense("c", b, 3, bias=False)
    net.zero_columns("c", [2])
    model = net.finish(c)
    shrunk = shrink(model)
    np.testing.assert_allclose(
        named(shrunk.model, "b/bias"), 1.5 * named(model, "b/w")[[0, 1, 3, 4], 4], rtol=1e-6
    )
    assert len(shrunk.model.subgraphs[0].operators[2].inputs) == 2
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_constants_go_on_through_layers_that_read_nothing_else(tmp_path):
    net = Network()
    a = net.dense("a", net.input("x", (1, 10)), 4)
    b = net.dense("b", a, 4, act=CLIPPED)
    c = net.dense("c", b, 3, act=NONE)
    net.zero_rows("a", [1], bias=2.0)
    w = net.get("b/w")
    w[2, [0, 2, 3]] = 0  # reads only the constant
    net.set("b/w", w)
    model = net.finish(c)
    shrunk = shrink(model)
    assert named(shrunk.model, "b/w").shape == (3, 3)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_behind_zeros_beside_the_image_only_a_channel_of_zeros_goes(tmp_path):
    net = Network()
    a = net.conv("a", net.input("x", (1, 8, 8, 3)), 6, 3)
    b = net.conv("b", a, 5, 3)
    net.zero_rows("a", [1], bias=0.5)
    net.zero_rows("a", [4], bias=-0.5)
    model = net.finish(net.conv("c", b, 2, 3))
    shrunk = shrink(model)
    assert shrunk.removed == 1
    np.testing.assert_array_equal(named(shrunk.model, "a/w"), named(model, "a/w")[[0, 1, 2, 3, 5]])
    assert named(shrunk.model, "b/w").shape == (5, 3, 3, 5)
    assert named(shrunk.model, "a") == (1, 8, 8, 5)
    assert_same_outputs(model, shrunk.model, tmp_path)


@pytest.mark.parametrize(
    ("k", "padding", "stride"), [(3, VALID, 1), (1, SAME, 1), (1, SAME, 2), (2, SAME, 2)]
)
def test_a_convolution_that_sees_no_zeros_takes_a_constant_into_its_bias(tmp_path, k, padding, stride):
    net = Network()
    a = net.conv("a", net.input("x", (1, 8, 8, 3)), 6, 3, act=RELU6)
    b = net.conv("b", a, 5, k, padding=padding, stride=stride, act=NONE)
    net.zero_rows("a", [1], bias=9.0)
    model = net.finish(b)
    shrunk = shrink(model)
    assert shrunk.removed == 1
    expected = named(model, "b/b") + 6.0 * named(model, "b/w")[..., 1].sum(axis=(1, 2))
    np.testing.assert_allclose(named(shrunk.model, "b/b"), expected, rtol=1e-5)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_channel_of_a_residual_sum_goes_only_when_all_that_make_and_read_it_agree(tmp_path):
    net = Network()
    stem = net.conv("stem", net.input("x", (1, 8, 8, 3)), 8, 3)
    a = net.conv("a", stem, 6, 3)
    b = net.conv("b", a, 8, 3, act=NONE)
    total = net.add("total", stem, b, act=1)
    c = net.conv("c", total, 4, 3)
    net.zero_rows("stem", [0, 1, 2])
    net.zero_rows("b", [0, 1, 3])  # zero in both: 0 and 1
    net.zero_columns("c", [4, 5])  # not read behind the sum: 4 and 5
    net.zero_columns("a", [5, 6])  # nor by the branch: 5
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 3
    for name, left in (("stem/w", 0), ("b/w", 0), ("a/w", 3), ("c/w", 3)):
        expected = np.take(named(model, name), [2, 3, 4, 6, 7], axis=left)
        np.testing.assert_array_equal(named(shrunk.model, name), expected)
    assert named(shrunk.model, "total") == (1, 8, 8, 5)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_channels_that_only_read_each_other_are_not_needed(tmp_path):
    net = Network()
    stem = net.conv("stem", net.input("x", (1, 6, 6, 3)), 4)
    a = net.conv("a", stem, 3)
    total = net.add("total", stem, net.conv("b", a, 4, act=NONE))
    c = net.conv("c", total, 2)
    net.zero_columns("c", [2])
    w = net.get("a/w")
    w[[0, 1], ..., 2] = 0
    net.set("a/w", w)  # channel 2 of the stream is read by channel 2 of the branch alone
    w = net.get("b/w")
    w[[0, 1, 3], ..., 2] = 0
    net.set("b/w", w)  # which is read for channel 2 of the stream alone
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 2
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_depthwise_separable_block_loses_the_channel_in_both_kernels(tmp_path):
    net = Network()
    stem = net.conv("stem", net.input("x", (1, 8, 8, 3)), 6, 3)
    d = net.depthwise("d", stem)
    p = net.conv("p", d, 5)
    net.zero_columns("p", [0])
    net.zero_rows("stem", [2])  # zero in front of the depthwise kernel, a constant behind it
    net.zero_rows("d", [4], bias=0.8)  # the kernel reads nothing of it
    model = net.finish(net.mean("mean", p))
    shrunk = shrink(model)
    assert shrunk.removed == 3
    np.testing.assert_array_equal(named(shrunk.model, "d/w"), named(model, "d/w")[..., [1, 3, 5]])
    np.testing.assert_array_equal(named(shrunk.model, "d/b"), named(model, "d/b")[[1, 3, 5]])
    assert named(shrunk.model, "stem/w").shape == (3, 3, 3, 3)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_depthwise_kernel_with_a_multiplier_loses_all_outputs_of_a_channel_or_none(tmp_path):
    net = Network()
    stem = net.conv("stem", net.input("x", (1, 6, 6, 2)), 4)
    d = net.depthwise("d", stem, multiplier=2)
    p = net.conv("p", d, 3)
    net.zero_columns("p", [2, 3, 5])
    model = net.finish(p)
    shrunk = shrink(model)
    assert named(shrunk.model, "d/w").shape == (1, 3, 3, 6)
    assert named(shrunk.model, "stem/w").shape[0] == 3
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_the_multiplier_of_a_depthwise_kernel_on_a_gray_image_shrinks(tmp_path):
    net = Network()
    d = net.depthwise("d", net.input("x", (1, 8, 8, 1)), multiplier=5)
    p = net.conv("p", d, 3)
    net.zero_columns("p", [1, 2])
    model = net.finish(p)
    shrunk = shrink(model)
    assert named(shrunk.model, "d/w").shape == (1, 3, 3, 3)
    assert shrunk.model.subgraphs[0].operators[0].builtinOptions.depthMultiplier == 3
    assert_same_outputs(model, shrunk.model, tmp_path)


@pytest.mark.parametrize("explicit", [True, False])
def test_behind_a_flatten_a_channel_is_a_column_at_every_place(tmp_path, explicit):
    net = Network()
    a = net.conv("a", net.input("x", (1, 4, 4, 2)), 5, 3)
    pooled = net.pool("pooled", a)
    flat = net.flatten("flat", pooled) if explicit else pooled
    c = net.dense("c", flat, 3, act=NONE)
    net.zero_columns("c", [1 + 5 * place for place in range(4)])
    net.zero_columns("c", [3 + 5 * place for place in range(3)])  # read at the last place
    net.zero_rows("a", [2], bias=0.4)
    model = net.finish(c)
    shrunk = shrink(model)
    stays = [i for i in range(20) if i % 5 not in (1, 2)]
    np.testing.assert_array_equal(named(shrunk.model, "c/w"), named(model, "c/w")[:, stays])
    if explicit:
        assert named(shrunk.model, "flat") == (1, 12)
        assert named(shrunk.model, "flat/shape").tolist() == [-1, 12]
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_dense_layer_in_front_of_an_image_loses_the_rows_at_every_place(tmp_path):
    net = Network()
    a = net.dense("a", net.input("x", (1, 6)), 2 * 2 * 4, act=NONE)
    image = net.reshape("image", a, (1, 2, 2, 4))
    up = net.transposed("up", image, 3)
    net.zero_columns("up", [1])
    out = net.conv("out", up, 2)
    net.zero_columns("out", [2])
    model = net.finish(out)
    shrunk = shrink(model)
    np.testing.assert_array_equal(
        named(shrunk.model, "a/w"), named(model, "a/w")[[i for i in range(16) if i % 4 != 1]]
    )
    assert named(shrunk.model, "up/w").shape == (2, 3, 3, 3)
    assert named(shrunk.model, "up/size").tolist() == [1, 4, 4, 2]
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_shape_that_is_computed_from_the_batch_shrinks_with_its_channels(tmp_path):
    net = Network()
    a = net.conv("a", net.input("x", (1, 4, 4, 2)), 5, 3)
    (shape,) = net.operator("SHAPE", [a], [("shape", (4,))], options("ShapeOptions", outType=2))
    begin, end, one = (net.constant(n, [v], "int32") for n, v in (("begin", 0), ("end", 1), ("one", 1)))
    given = options("StridedSliceOptions", shrinkAxisMask=1)
    (batch,) = net.operator("STRIDED_SLICE", [shape, begin, end, one], [("batch", ())], given)
    size = net.constant("size", 80, "int32")
    given = options("PackOptions", valuesCount=2, axis=0)
    (wanted,) = net.operator("PACK", [batch, size], [("wanted", (2,))], given)
    for integer in (shape, batch, wanted):
        net.graph.tensors[integer].type = schema.TensorType.INT32
    (flat,) = net.operator("RESHAPE", [a, wanted], [("flat", (1, 80))], options("ReshapeOptions"))
    c = net.dense("c", flat, 3, act=NONE)
    net.zero_rows("a", [0, 3])
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 2
    assert named(shrunk.model, "size") == 48
    assert_same_outputs(model, shrunk.model, tmp_path)


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("kind", ["MAX_POOL_2D", "AVERAGE_POOL_2D"])
def test_pools_and_means_hand_constants_on(tmp_path, kind, padding):
    net = Network()
    a = net.conv("a", net.input("x", (1, 7, 7, 3)), 6, 3, act=NONE)
    pooled = net.pool("pooled", a, kind, padding=padding)
    c = net.dense("c", net.mean("mean", pooled), 3, act=NONE)
    net.zero_rows("a", [1], bias=-0.9)
    net.zero_rows("a", [2], bias=0.9)
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 2
    assert named(shrunk.model, "pooled")[-1] == named(shrunk.model, "mean")[-1] == 4
    assert_same_outputs(model, shrunk.model, tmp_path)


def repeated(net: Network, x: int) -> int:
    times = net.constant("times", [1, 2, 1, 1], "int32")
    return net.operator("TILE", [x, times], [("y", (1, 12, 6, 5))], options("TileOptions"))[0]


def mirrored(net: Network, x: int) -> int:
    widths = net.constant("widths", [[0, 0], [1, 2], [0, 3], [0, 0]], "int32")
    given = options("MirrorPadOptions", mode=0)
    return net.operator("MIRROR_PAD", [x, widths], [("y", (1, 9, 9, 5))], given)[0]


def framed(net: Network, x: int) -> int:
    """Beside the image is the very constant that one of the channels holds."""
    widths = net.constant("widths", [[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
    frame = net.constant("frame", 0.75)
    return net.operator("PADV2", [x, widths, frame], [("y", (1, 8, 8, 5))], options("PadV2Options"))[0]


def resized(kind: str):
    def make(net: Network, x: int) -> int:
        size = net.constant("size", [9, 12], "int32")
        return net.operator(kind, [x, size], [("y", (1, 9, 12, 5))], options(f"{RESIZES[kind]}Options"))[0]

    return make


def reduced(kind: str, axes: list[int], shape: tuple[int, ...], keep: bool):
    def make(net: Network, x: int) -> int:
        over = net.constant("axes", axes, "int32")
        return net.operator(kind, [x, over], [("y", shape)], options("ReducerOptions", keepDims=keep))[0]

    return make


def folded(net: Network, x: int) -> int:
    axis = net.constant("axis", 1, "int32")
    (wide,) = net.operator("EXPAND_DIMS", [x, axis], [("wide", (1, 1, 6, 6, 5))])
    given = options("SqueezeOptions", squeezeDims=[1])
    return net.operator("SQUEEZE", [wide], [("y", (1, 6, 6, 5))], given)[0]


def stacked(net: Network, x: int) -> int:
    bent = net.apply("ABS", "bent", x)
    given = options("ConcatenationOptions", axis=1)
    return net.operator("CONCATENATION", [x, bent], [("y", (1, 12, 6, 5))], given)[0]


RESIZES = {"RESIZE_BILINEAR": "ResizeBilinear", "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor"}
CHANNEL_BY_CHANNEL = {
    "tile": repeated,
    "mirror pad": mirrored,
    "frame": framed,
    "bilinear": resized("RESIZE_BILINEAR"),
    "nearest": resized("RESIZE_NEAREST_NEIGHBOR"),
    "sum": reduced("SUM", [1, 2], (1, 5), False),
    "max": reduced("REDUCE_MAX", [-2], (1, 6, 5), False),
    "min": reduced("REDUCE_MIN", [1], (1, 1, 6, 5), True),
    "fold": folded,
    "stack": stacked,
}


@pytest.mark.parametrize("case", CHANNEL_BY_CHANNEL)
def test_operators_that_work_channel_by_channel_hand_on_what_is_dead_and_what_is_constant(tmp_path, case):
    net = Network()
    a = net.conv("a", net.input("x", (1, 6, 6, 3)), 5, 3)
    y = CHANNEL_BY_CHANNEL[case](net, a)
    c = net.dense("c", y, 3, act=NONE)
    net.zero_columns("c", range(1, int(np.prod(net.shape(y))), 5))
    net.zero_rows("a", [3], bias=0.75)
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 2
    assert named(shrunk.model, "y") == (*net.shape(y)[:-1], 3)
    assert_same_outputs(model, shrunk.model, tmp_path)


ACROSS_CHANNELS = {
    "tile": ("times", [1, 1, 1, 2], (1, 6, 6, 10)),
    "mirror pad": ("widths", [[0, 0], [0, 0], [0, 0], [1, 1]], (1, 6, 6, 7)),
    "frame": ("widths", [[0, 0], [0, 0], [0, 0], [1, 1]], (1, 6, 6, 7)),
    "sum": ("axes", [2, 3], (1, 6)),
    "max": ("axes", [-1], (1, 6, 6)),
    "min": ("axes", [3], (1, 6, 6, 1)),
}
"""The same with another constant, and the shape that then comes out."""


@pytest.mark.parametrize("case", ACROSS_CHANNELS)
def test_the_same_operators_across_channels_are_barriers(case):
    name, value, shape = ACROSS_CHANNELS[case]
    net = Network()
    a = net.conv("a", net.input("x", (1, 6, 6, 3)), 5, 3)
    y = CHANNEL_BY_CHANNEL[case](net, a)
    net.graph.tensors[y].shape = list(shape)
    fb.set_constant(net.model, net.index(name), np.array(value, np.int32).reshape(net.get(name).shape))
    c = net.dense("c", y, 3, act=NONE)
    net.zero_columns("c", range(int(np.prod(shape))))
    assert shrink(net.finish(c)).removed == 0


def test_zeros_around_an_image_let_only_zeros_pass(tmp_path):
    net = Network()
    a = net.conv("a", net.input("x", (1, 5, 5, 2)), 5, 3)
    c = net.conv("c", net.pad("padded", a), 3, 3, padding=VALID)
    net.zero_rows("a", [1], bias=0.5)
    net.zero_rows("a", [3], bias=-0.5)
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 1
    assert named(shrunk.model, "padded") == (1, 7, 7, 4)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_behind_a_concatenation_channels_are_found_at_their_offset(tmp_path):
    net = Network()
    x = net.input("x", (1, 6, 6, 3))
    a, b = net.conv("a", x, 4, 3), net.conv("b", x, 5, 3)
    both = net.concat("both", a, b)
    c = net.conv("c", both, 3, 1)
    net.zero_columns("c", [1, 4, 8])
    net.zero_rows("b", [2], bias=0.6)
    model = net.finish(c)
    shrunk = shrink(model)
    assert named(shrunk.model, "a/w").shape[0] == 3
    np.testing.assert_array_equal(named(shrunk.model, "b/w"), named(model, "b/w")[[1, 3]])
    np.testing.assert_array_equal(named(shrunk.model, "c/w"), named(model, "c/w")[..., [0, 2, 3, 5, 7]])
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_numbers_for_each_channel_shrink_with_them(tmp_path):
    net = Network()
    a = net.conv("a", net.input("x", (1, 6, 6, 3)), 5, 3, act=NONE)
    scaled = net.multiply("scaled", a, net.constant("scale", [1, 0, 2, -1, 3]))
    shifted = net.add("shifted", scaled, net.constant("shift", [[[[0.1, 0.2, 0.3, 0.4, 0.5]]]]))
    bent = net.apply("PRELU", "bent", shifted, net.constant("slope", [[[0.1, 0.2, 0.3, 0.4, 0.5]]]))
    half = net.multiply("half", bent, net.constant("one", 0.5))
    c = net.conv("c", half, 3)
    net.zero_columns("c", [4])
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 2  # what nothing reads, and what is multiplied with zero
    assert named(shrunk.model, "scale").tolist() == [1, 2, -1]
    assert named(shrunk.model, "shift").shape == (1, 1, 1, 3)
    assert named(shrunk.model, "slope").shape == (1, 1, 3)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_gate_and_what_it_gates_lose_the_same_channel(tmp_path):
    net = Network()
    a = net.conv("a", net.input("x", (1, 6, 6, 3)), 6, 3)
    squeezed = net.conv("squeeze", net.mean("mean", a, keep=True), 3)
    gate = net.apply("LOGISTIC", "gate", net.conv("excite", squeezed, 6, act=NONE))
    gated = net.multiply("gated", a, gate)
    c = net.conv("c", gated, 4, 3)
    net.zero_rows("a", [0, 5])
    net.zero_columns("excite", [1])
    model = net.finish(c)
    shrunk = shrink(model)
    assert named(shrunk.model, "gate") == (1, 1, 1, 4)
    assert named(shrunk.model, "excite/w").shape == (4, 1, 1, 2)
    assert_same_outputs(model, shrunk.model, tmp_path)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("RELU", None),
        ("RELU6", None),
        ("RELU_N1_TO_1", None),
        ("TANH", None),
        ("LOGISTIC", None),
        ("LEAKY_RELU", options("LeakyReluOptions", alpha=0.3)),
        ("ELU", None),
        ("GELU", options("GeluOptions", approximate=False)),
        ("GELU", options("GeluOptions", approximate=True)),
        ("HARD_SWISH", None),
        ("ABS", None),
        ("NEG", None),
        ("EXP", None),
        ("SQUARE", None),
        ("SIN", None),
        ("COS", None),
    ],
)
@pytest.mark.parametrize("bias", [-1.3, 0.4])
def test_an_activation_turns_a_constant_into_another(tmp_path, kind, given, bias):
    net = Network()
    a = net.dense("a", net.input("x", (1, 4)), 4, act=NONE)
    c = net.dense("c", net.apply(kind, "bent", a, given=given), 3, act=NONE)
    net.zero_rows("a", [2], bias=bias)
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 1
    assert_same_outputs(model, shrunk.model, tmp_path)


@pytest.mark.parametrize(
    ("kind", "number"),
    [("ADD", 0.3), ("SUB", 0.3), ("MUL", -2.0), ("DIV", 4.0), ("MAXIMUM", 1.0), ("MINIMUM", 0.2)],
)
@pytest.mark.parametrize("first", [True, False])
def test_arithmetic_with_a_number_turns_a_constant_into_another(tmp_path, kind, number, first):
    net = Network()
    a = net.dense("a", net.input("x", (1, 4)), 4, act=CLIPPED)
    other = net.constant("other", [[number]])
    name = {"MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum"}.get(kind, kind.capitalize())
    operands = [other, a] if first else [a, other]
    (b,) = net.operator(kind, operands, [("b", (1, 4))], options(f"{name}Options"))
    c = net.dense("c", b, 3, act=NONE)
    net.zero_rows("a", [2], bias=0.7)
    model = net.finish(c)
    shrunk = shrink(model)
    assert shrunk.removed == 1
    assert_same_outputs(model, shrunk.model, tmp_path)


def barrier_softmax(net: Network, x: int) -> int:
    return net.softmax("barrier", x)


def barrier_transpose(net: Network, x: int) -> int:
    order = net.constant("order", [0, 2, 1, 3], "int32")
    return net.apply("TRANSPOSE", "barrier", x, order)


def barrier_norm(net: Network, x: int) -> int:
    return net.apply("L2_NORMALIZATION", "barrier", x, given=options("L2NormOptions"))


@pytest.mark.parametrize("barrier", [barrier_softmax, barrier_transpose, barrier_norm])
def test_at_an_operator_without_a_rule_all_channels_stay_and_others_go(tmp_path, barrier):
    net = Network()
    a = net.conv("a", net.input("x", (1, 6, 6, 3)), 5, 3)
    b = net.conv("b", a, 4, 3, act=NONE)
    c = net.conv("c", barrier(net, b), 5)
    d = net.conv("d", c, 2)
    net.zero_rows("a", [1])
    net.zero_rows("b", [1])
    net.zero_columns("c", [2])
    net.zero_columns("d", [3])
    model = net.finish(d)
    shrunk = shrink(model)
    assert shrunk.removed == 2
    assert named(shrunk.model, "b/w").shape == (4, 3, 3, 4)
    assert named(shrunk.model, "c/w").shape == (4, 1, 1, 4)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_all_that_read_a_tensor_must_agree(tmp_path):
    net = Network()
    a = net.conv("a", net.input("x", (1, 6, 6, 3)), 6, 3)
    left, right = net.conv("left", a, 3), net.conv("right", a, 4, 3)
    net.zero_columns("left", [0, 1])
    net.zero_columns("right", [1, 2])
    net.zero_rows("a", [4], bias=0.5)  # `left` could take it into its bias, `right` sees zeros beside it
    model = net.finish(left, right)
    shrunk = shrink(model)
    np.testing.assert_array_equal(named(shrunk.model, "a/w"), named(model, "a/w")[[0, 2, 3, 4, 5]])
    assert named(shrunk.model, "right/w").shape == (4, 3, 3, 5)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_channels_of_inputs_and_outputs_stay(tmp_path):
    net = Network()
    x = net.input("x", (1, 6, 6, 4))
    a = net.conv("a", x, 5, 3)
    b = net.conv("b", a, 3)
    net.zero_columns("a", [2])
    net.zero_columns("b", [0, 1, 2])
    net.zero_rows("b", [1])
    model = net.finish(b, a)
    shrunk = shrink(model)
    assert shrunk.removed == 0
    assert named(shrunk.model, "a/w").shape == (5, 3, 3, 4)


def test_a_model_without_dead_channels_stays_the_same_bytes():
    net = Network()
    x = net.input("x", (1, 8, 8, 3))
    a = net.conv("a", x, 6, 3)
    c = net.dense("c", net.mean("mean", net.add("sum", a, net.conv("b", a, 6, 3))), 3)
    model = net.finish(net.softmax("scores", c))
    data = fb.pack(model)
    shrunk = shrink(model)
    assert shrunk.removed == 0
    assert shrunk.before == shrunk.after
    assert fb.pack(shrunk.model) == data


def test_the_model_that_is_given_is_left_alone():
    net = Network()
    a = net.dense("a", net.input("x", (1, 10)), 8)
    c = net.dense("c", a, 3)
    net.zero_columns("c", [1, 5])
    model = net.finish(c)
    data = fb.pack(model)
    assert shrink(model).removed == 2
    assert fb.pack(model) == data


def test_where_everything_is_dead_one_channel_stays(tmp_path):
    net = Network()
    a = net.conv("a", net.input("x", (1, 6, 6, 3)), 5, 3)
    b = net.conv("b", net.pool("pooled", a), 4)
    c = net.dense("c", net.flatten("flat", b), 3)
    net.zero_columns("c", range(36))
    model = net.finish(c)
    shrunk = shrink(model)
    assert named(shrunk.model, "a/w").shape == (1, 3, 3, 3)
    assert named(shrunk.model, "b/w").shape == (1, 1, 1, 1)
    assert named(shrunk.model, "c/w").shape == (3, 9)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_bias_that_two_layers_share_is_cut_for_each_of_them(tmp_path):
    net = Network()
    x = net.input("x", (1, 6, 6, 3))
    a = net.conv("a", x, 5, 3)
    b = net.conv("b", a, 5, 3)
    c = net.conv("c", b, 5, 3)
    d = net.conv("d", c, 2)
    shared = net.graph.operators[0].inputs[2]
    for operator in (1, 2):
        net.graph.operators[operator].inputs[2] = shared
    net.zero_columns("b", [1])
    net.zero_columns("c", [3, 4])
    model = net.finish(d)
    shrunk = shrink(model)
    found = [
        fb.constant(shrunk.model, int(shrunk.model.subgraphs[0].operators[i].inputs[2])).tolist()
        for i in range(3)
    ]
    whole = named(model, "a/b")
    assert found == [whole[[0, 2, 3, 4]].tolist(), whole[:3].tolist(), whole.tolist()]
    names = [fb.tensor_name(t) for t in shrunk.model.subgraphs[0].tensors]
    assert len(set(names)) == len(names)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_kernel_that_two_layers_share_stays_shared(tmp_path):
    net = Network()
    stem = net.conv("stem", net.input("x", (1, 6, 6, 3)), 4, 3)
    a = net.conv("a", stem, 4, 3)
    b = net.conv("b", a, 4, 3)
    net.graph.operators[2].inputs = net.graph.operators[1].inputs[:]
    net.graph.operators[2].inputs[0] = a
    c = net.conv("c", b, 2)
    net.zero_columns("a", [1])
    net.zero_columns("c", [1, 2])
    model = net.finish(c)
    shrunk = shrink(model)
    operators = shrunk.model.subgraphs[0].operators
    assert operators[1].inputs[1] == operators[2].inputs[1]
    assert named(shrunk.model, "a/w").shape == (3, 3, 3, 3)
    assert_same_outputs(model, shrunk.model, tmp_path)


def test_a_kernel_that_another_operator_reads_too_stays(tmp_path):
    net = Network()
    a = net.dense("a", net.input("x", (1, 4)), 4)
    c = net.dense("c", a, 4)
    kernel = int(net.graph.operators[1].inputs[1])
    net.zero_columns("c", [2])
    looked_up = net.apply("SOFTMAX", "looked up", kernel, given=options("SoftmaxOptions", beta=1.0))
    model = net.finish(c, looked_up)
    assert shrink(model).removed == 0


def test_operators_keep_their_places_and_the_finished_file_passes_inspection(tmp_path):
    net = Network()
    stem = net.conv("stem", net.input("x", (1, 8, 8, 3)), 6, 3)
    d = net.depthwise("d", stem)
    p = net.conv("p", d, 5)
    net.zero_columns("p", [0, 1])
    model = net.finish(net.dense("c", net.mean("mean", p), 3))
    shrunk = shrink(model)
    path = tmp_path / "shrunk.tflite"
    fb.write(shrunk.model, path)
    before, after = describe_model(model).layers, describe_model(shrunk.model).layers
    assert [(x.name, x.weight_tensor) for x in before] == [(x.name, x.weight_tensor) for x in after]
    assert len(inspect(path, before).tensors) == 4


def test_open_axes_stay_open_and_closed_ones_follow():
    net = Network()
    a = net.conv("a", net.input("x", (1, 6, 6, 3)), 5, 3)
    net.graph.tensors[a].shapeSignature = [-1, 6, 6, 5]
    c = net.conv("c", a, 2)
    net.zero_columns("c", [2])
    shrunk = shrink(net.finish(c))
    (signature,) = [t.shapeSignature for t in shrunk.model.subgraphs[0].tensors if fb.tensor_name(t) == "a"]
    assert [int(d) for d in signature] == [-1, 6, 6, 4]


def test_outputs_that_differ_are_a_fault_of_paretune():
    net = Network()
    model = net.finish(net.dense("a", net.input("x", (1, 10)), 8, act=NONE))
    other = fb.load(fb.pack(model))
    kernel = int(other.subgraphs[0].operators[0].inputs[1])
    fb.set_constant(other, kernel, fb.constant(other, kernel) * np.float32(1.001))
    with pytest.raises(StageError, match="output 0") as error:
        must_agree(model, other, random_samples(model))
    assert error.value.reason is Reason.INTERNAL
    assert must_agree(model, model, random_samples(model)) == 0
