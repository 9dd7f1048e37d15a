"""Models of one operator behind a convolution: each operator that can be trained, in a usual variant."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from .made_tflite import ModelBuilder, convolution, options

SHAPE = (1, 6, 8, 4)
RELU, RELU6, TANH, SAME, VALID = 1, 3, 4, 0, 1
Make = Callable[[ModelBuilder, int], list[int]]
rng = np.random.default_rng(7)


def plain(name, out=SHAPE, kind=None, version=1, **values) -> Make:
    """An operator with one input and no constants."""

    def make(b: ModelBuilder, x: int) -> list[int]:
        return b.operator(name, [x], [("y", out)], options(kind, **values) if kind else None, version)

    return make


def with_integers(name, integers, out, kind=None, **values) -> Make:
    """An operator with an input and constant integers (axes, sizes, paddings)."""

    def make(b: ModelBuilder, x: int) -> list[int]:
        more = [b.constant(f"c{i}", value, "int32") for i, value in enumerate(integers)]
        return b.operator(name, [x, *more], [("y", out)], options(kind, **values) if kind else None)

    return make


def with_floats(name, value, out=SHAPE, kind=None, **values) -> Make:
    """An operator with an input and a constant operand."""

    def make(b: ModelBuilder, x: int) -> list[int]:
        operand = b.constant("operand", value)
        return b.operator(name, [x, operand], [("y", out)], options(kind, **values) if kind else None)

    return make


def weighted(name, shape, bias, out, given, version=1) -> Make:
    def make(b: ModelBuilder, x: int) -> list[int]:
        inputs = [x, b.constant("w", rng.normal(0, 0.3, shape))]
        if bias:
            inputs.append(b.constant("b", rng.normal(0, 0.3, bias)))
        return b.operator(name, inputs, [("y", out)], given, version)

    return make


def depthwise(**values):
    return convolution("DepthwiseConv2DOptions", depthMultiplier=1, **values)


def transposed_convolution(b: ModelBuilder, x: int) -> list[int]:
    shape = b.constant("shape", [1, 12, 16, 5], "int32")
    w = b.constant("w", rng.normal(0, 0.3, (5, 3, 3, 4)))
    given = options("TransposeConvOptions", strideH=2, strideW=2, padding=SAME)
    return b.operator("TRANSPOSE_CONV", [shape, w, x], [("y", (1, 12, 16, 5))], given)


def concatenation(b: ModelBuilder, x: int) -> list[int]:
    (a,) = b.operator("TANH", [x], [("a", SHAPE)])
    return b.operator("CONCATENATION", [x, a], [("y", (1, 6, 8, 8))], options("ConcatenationOptions", axis=3))


def residual(b: ModelBuilder, x: int) -> list[int]:
    (a,) = b.operator("LOGISTIC", [x], [("a", SHAPE)])
    return b.operator("ADD", [x, a], [("y", SHAPE)], options("AddOptions", fusedActivationFunction=RELU6))


def split(b: ModelBuilder, x: int) -> list[int]:
    axis = b.constant("axis", 3, "int32")
    first, second = b.operator(
        "SPLIT", [axis, x], [("s0", (1, 6, 8, 2)), ("s1", (1, 6, 8, 2))], options("SplitOptions", numSplits=2)
    )
    return b.operator("MUL", [first, second], [("y", (1, 6, 8, 2))], options("MulOptions"))


def unpacked(b: ModelBuilder, x: int) -> list[int]:
    parts = b.operator(
        "UNPACK", [x], [(f"u{i}", (1, 6, 8)) for i in range(4)], options("UnpackOptions", num=4, axis=3)
    )
    return b.operator(
        "PACK", [parts[2], parts[0]], [("y", (1, 2, 6, 8))], options("PackOptions", valuesCount=2, axis=1)
    )


def computed_shape(b: ModelBuilder, x: int) -> list[int]:
    """A RESHAPE whose shape is computed, as converters write it for an open batch axis."""
    (shape,) = b.operator("SHAPE", [x], [("shape", (4,))], options("ShapeOptions", outType=2))
    b.graph.tensors[shape].type = 2
    begin, end, one = (b.constant(n, [v], "int32") for n, v in (("b", 0), ("e", 1), ("o", 1)))
    (batch,) = b.operator(
        "STRIDED_SLICE",
        [shape, begin, end, one],
        [("n", ())],
        options("StridedSliceOptions", shrinkAxisMask=1),
    )
    size = b.constant("size", 192, "int32")
    (wanted,) = b.operator(
        "PACK", [batch, size], [("wanted", (2,))], options("PackOptions", valuesCount=2, axis=0)
    )
    b.graph.tensors[batch].type = b.graph.tensors[wanted].type = 2
    return b.operator("RESHAPE", [x, wanted], [("y", (1, 192))], options("ReshapeOptions"))


def strided(b: ModelBuilder, x: int) -> list[int]:
    ends = [
        b.constant(n, v, "int32") for n, v in (("b", [0, 1, 0, 0]), ("e", [1, 6, 8, 3]), ("s", [1, 2, 3, 1]))
    ]
    return b.operator("STRIDED_SLICE", [x, *ends], [("y", (1, 3, 3, 3))], options("StridedSliceOptions"))


POOL = {"filterHeight": 3, "filterWidth": 2, "strideH": 2, "strideW": 1}
CASES: dict[str, Make] = {
    "conv": weighted("CONV_2D", (5, 3, 3, 4), 5, (1, 6, 8, 5), convolution(padding=SAME)),
    "conv, stride 2, relu": weighted(
        "CONV_2D", (5, 3, 3, 4), 5, (1, 3, 4, 5),
        convolution(strideH=2, strideW=2, padding=SAME, fusedActivationFunction=RELU),
    ),
    "conv, valid": weighted("CONV_2D", (5, 3, 2, 4), 5, (1, 4, 7, 5), convolution(padding=VALID)
    ),
    "conv, dilated": weighted(
        "CONV_2D", (5, 3, 3, 4), 5, (1, 6, 8, 5),
        convolution(dilationHFactor=2, dilationWFactor=3, padding=SAME), 2,
    ),
    "depthwise": weighted("DEPTHWISE_CONV_2D", (1, 3, 3, 4), 4, SHAPE, depthwise(padding=SAME)),
    "depthwise, multiplier 2": weighted(
        "DEPTHWISE_CONV_2D", (1, 3, 3, 8), 8, (1, 6, 8, 8),
        convolution("DepthwiseConv2DOptions", depthMultiplier=2, padding=SAME, fusedActivationFunction=RELU6),
    ),
    "depthwise, unequal strides": weighted(
        "DEPTHWISE_CONV_2D", (1, 3, 3, 4), 4, (1, 3, 8, 4), depthwise(strideH=2, padding=SAME)
    ),
    "depthwise, dilated": weighted(
        "DEPTHWISE_CONV_2D", (1, 3, 3, 4), 4, (1, 2, 4, 4),
        depthwise(dilationHFactor=2, dilationWFactor=2, padding=VALID), 2,
    ),
    "dense": weighted(
        "FULLY_CONNECTED", (7, 192), 7, (1, 7), options("FullyConnectedOptions", fusedActivationFunction=RELU)
    ),
    "dense over the last axis": weighted(
        "FULLY_CONNECTED", (7, 4), None, (1, 6, 8, 7), options("FullyConnectedOptions", keepNumDims=True), 5
    ),
    "transposed conv": transposed_convolution,
    "max pool": plain("MAX_POOL_2D", (1, 3, 8, 4), "Pool2DOptions", padding=SAME, **POOL),
    "average pool": plain("AVERAGE_POOL_2D", (1, 3, 8, 4), "Pool2DOptions", padding=SAME, **POOL),
    "average pool, valid": plain("AVERAGE_POOL_2D", (1, 2, 7, 4), "Pool2DOptions", padding=VALID, **POOL),
    "mean": with_integers("MEAN", [[1, 2]], (1, 4), "ReducerOptions", keepDims=False),
    "mean, kept": with_integers("MEAN", [[-1]], (1, 6, 8, 1), "ReducerOptions", keepDims=True),
    "sum": with_integers("SUM", [[2]], (1, 6, 4), "ReducerOptions", keepDims=False),
    "max": with_integers("REDUCE_MAX", [[1]], (1, 8, 4), "ReducerOptions", keepDims=False),
    "add a channel vector": with_floats("ADD", [0.1, 0.2, -1, 2], kind="AddOptions"),
    "subtract, relu": with_floats("SUB", 0.3, kind="SubOptions", fusedActivationFunction=RELU),
    "multiply by columns": with_floats("MUL", [[float(i)] for i in range(1, 9)], kind="MulOptions"),
    "divide": with_floats("DIV", [2.0, 3.0, 4.0, 5.0], kind="DivOptions"),
    "maximum": with_floats("MAXIMUM", 0.2),
    "squared difference": with_floats("SQUARED_DIFFERENCE", 0.5),
    "residual, relu6": residual,
    "relu": plain("RELU"),
    "relu6": plain("RELU6"),
    "leaky relu": plain("LEAKY_RELU", kind="LeakyReluOptions", alpha=0.2),
    "prelu": with_floats("PRELU", rng.normal(0, 0.3, (1, 1, 4))),
    "elu": plain("ELU"),
    "logistic": plain("LOGISTIC"),
    "tanh": plain("TANH"),
    "hard swish": plain("HARD_SWISH"),
    "gelu": plain("GELU", kind="GeluOptions", approximate=False),
    "softmax": plain("SOFTMAX", kind="SoftmaxOptions", beta=2.0),
    "log softmax": plain("LOG_SOFTMAX"),
    "abs": plain("ABS"),
    "exp": plain("EXP"),
    "square": plain("SQUARE"),
    "reshape": with_integers("RESHAPE", [[1, 192]], (1, 192)),
    "reshape to a computed shape": computed_shape,
    "squeeze": lambda b, x: b.operator(
        "SQUEEZE",
        b.operator("RESHAPE", [x, b.constant("s", [1, 1, 192], "int32")], [("r", (1, 1, 192))]),
        [("y", (1, 192))],
        options("SqueezeOptions", squeezeDims=[1]),
    ),
    "expand": with_integers("EXPAND_DIMS", [1], (1, 1, 6, 8, 4)),
    "concatenate": concatenation,
    "pad": with_integers("PAD", [[[0, 0], [1, 2], [0, 3], [0, 0]]], (1, 9, 11, 4)),
    "mirror pad": with_integers(
        "MIRROR_PAD", [[[0, 0], [1, 2], [0, 3], [0, 0]]], (1, 9, 11, 4), "MirrorPadOptions", mode=0
    ),
    "transpose": with_integers("TRANSPOSE", [[0, 3, 1, 2]], (1, 4, 6, 8)),
    "slice": with_integers("SLICE", [[0, 1, 2, 0], [1, 3, 4, 4]], (1, 3, 4, 4)),
    "strided slice": strided,
    "split": split,
    "unpack and pack": unpacked,
    "resize bilinear": with_integers(
        "RESIZE_BILINEAR", [[9, 16]], (1, 9, 16, 4), "ResizeBilinearOptions", halfPixelCenters=True
    ),
    "resize nearest": with_integers(
        "RESIZE_NEAREST_NEIGHBOR", [[12, 16]], (1, 12, 16, 4), "ResizeNearestNeighborOptions"
    ),
    "space to depth": plain("SPACE_TO_DEPTH", (1, 3, 4, 16), "SpaceToDepthOptions", blockSize=2),
    "depth to space": plain("DEPTH_TO_SPACE", (1, 12, 16, 1), "DepthToSpaceOptions", blockSize=2),
}  # fmt: skip


def model_of(make: Make, path: Path) -> Path:
    """A 1x1 convolution with weights to train, then the operator."""
    b = ModelBuilder()
    x = b.input("x", SHAPE)
    w = b.constant("first/w", rng.normal(0, 0.5, (4, 1, 1, 4)))
    bias = b.constant("first/b", rng.normal(0, 0.5, 4))
    (x,) = b.operator("CONV_2D", [x, w, bias], [("first", SHAPE)], convolution())
    b.output(*make(b, x))
    return b.save(path)
