"""LiteRT operators as TensorFlow functions that pass a gradient.

One entry for each operator: TensorFlow arithmetic on batches, from the options in the flatbuffer
(tensorflow/compiler/mlir/lite/schema/schema.fbs). TensorFlow is imported when a function is called, so the
table itself can be asked without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..flatbuffer import Array

TFTensor = Any
PADDING = {0: "SAME", 1: "VALID"}
ACTIVATIONS = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}


@dataclass(frozen=True)
class Call:
    """One operator of the graph, ready to run.

    inputs: TensorFlow tensors, None where the operator leaves one out.
    constants: numpy values of the inputs that are constants of the file (axes, shapes), else None.
    shapes: static shapes of the outputs, with batch 1.
    """

    inputs: Sequence[TFTensor]
    constants: Sequence[Array | None]
    options: Any
    shapes: Sequence[tuple[int, ...]]

    def integers(self, i: int) -> list[int]:
        """The constant input `i` as a flat list of integers."""
        value = self.constants[i]
        if value is None:
            raise ValueError(f"input {i} is not a constant")
        return [int(v) for v in value.reshape(-1)]

    def has(self, i: int) -> bool:
        return i < len(self.inputs) and self.inputs[i] is not None


Function = Callable[[Call], Any]
FUNCTIONS: dict[str, Function] = {}
WEIGHT_INPUT = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
}
"""Operators whose weights are trained, and the input where these stand."""
BIAS_INPUT = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
SHAPE_INPUTS = {
    "RESHAPE": (1,),
    "TRANSPOSE_CONV": (0,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
}
"""Inputs that only say the output's shape, which the file states anyway."""
CONSTANT_INPUTS = {
    "MEAN": (1,), "SUM": (1,), "REDUCE_MAX": (1,), "REDUCE_MIN": (1,), "REDUCE_PROD": (1,),
    "PAD": (1,), "PADV2": (1,), "MIRROR_PAD": (1,), "TRANSPOSE": (1,), "EXPAND_DIMS": (1,),
    "SLICE": (1, 2), "STRIDED_SLICE": (1, 2, 3), "SPLIT": (0,), "SPLIT_V": (1, 2),
}  # fmt: skip
"""Inputs that must be constants of the file."""


def _operator(*names: str) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        for name in names:
            FUNCTIONS[name] = function
        return function

    return register


def _tf() -> Any:
    import tensorflow as tf

    return tf


def activate(y: TFTensor, code: int) -> TFTensor:
    """The fused activation `code` of the schema."""
    tf = _tf()
    name = ACTIVATIONS[code]
    if name == "RELU":
        return tf.nn.relu(y)
    if name == "RELU6":
        return tf.nn.relu6(y)
    if name == "RELU_N1_TO_1":
        return tf.clip_by_value(y, -1.0, 1.0)
    if name == "TANH":
        return tf.tanh(y)
    return y


def _biased(call: Call, y: TFTensor, i: int) -> TFTensor:
    return y + call.inputs[i] if call.has(i) else y


# --- with weights -------------------------------------------------------------------------------------------


@_operator("CONV_2D")
def conv_2d(call: Call) -> TFTensor:
    """Weights stored as [out, height, width, in]."""
    tf, o = _tf(), call.options
    kernel = tf.transpose(call.inputs[1], [1, 2, 3, 0])
    strides, dilation = [o.strideH, o.strideW], [o.dilationHFactor, o.dilationWFactor]
    x, padding = call.inputs[0], PADDING[o.padding]
    if dilation == [1, 1]:
        y = tf.nn.conv2d(x, kernel, strides, padding)
    else:
        # On CPUs the gradient of a dilated convolution exists only with the zeros written out.
        x = _padded(x, _same_padding(x, kernel.shape[:2], strides, dilation)) if padding == "SAME" else x
        y = tf.nn.conv2d(x, _spread(kernel, dilation), strides, "VALID")
    return activate(_biased(call, y, 2), o.fusedActivationFunction)


@_operator("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(call: Call) -> TFTensor:
    """Weights stored as [1, height, width, in * multiplier]."""
    tf, o = _tf(), call.options
    x, w = call.inputs[0], call.inputs[1]
    kernel = tf.reshape(w, [w.shape[1], w.shape[2], x.shape[-1], -1])
    strides, dilation = [o.strideH, o.strideW], [o.dilationHFactor, o.dilationWFactor]
    padding = PADDING[o.padding]
    if dilation == [1, 1] and strides[0] == strides[1]:
        y = tf.nn.depthwise_conv2d(x, kernel, [1, *strides, 1], padding)
    else:
        # TensorFlow wants equal strides and no dilation beside strides: pad by hand, stride by slicing.
        x = _padded(x, _same_padding(x, kernel.shape[:2], strides, dilation)) if padding == "SAME" else x
        y = tf.nn.depthwise_conv2d(x, _spread(kernel, dilation), [1, 1, 1, 1], "VALID")
        y = y[:, :: strides[0], :: strides[1], :]
    return activate(_biased(call, y, 2), o.fusedActivationFunction)


@_operator("FULLY_CONNECTED")
def fully_connected(call: Call) -> TFTensor:
    """Weights stored as [out, in]."""
    tf = _tf()
    x, w = call.inputs[0], call.inputs[1]
    y = tf.matmul(tf.reshape(x, [-1, w.shape[1]]), w, transpose_b=True)
    y = activate(_biased(call, y, 2), call.options.fusedActivationFunction)
    return tf.reshape(y, [-1, *call.shapes[0][1:]])


@_operator("TRANSPOSE_CONV")
def transpose_conv(call: Call) -> TFTensor:
    """Weights stored as [out, height, width, in]."""
    tf, o = _tf(), call.options
    x, kernel = call.inputs[2], tf.transpose(call.inputs[1], [1, 2, 0, 3])
    shape = [tf.shape(x)[0], *call.shapes[0][1:]]
    y = tf.nn.conv2d_transpose(x, kernel, shape, [o.strideH, o.strideW], PADDING[o.padding])
    return activate(_biased(call, y, 3), getattr(o, "fusedActivationFunction", 0))


def _same_padding(
    x: TFTensor, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    pads = []
    for axis in (0, 1):
        n = int(x.shape[axis + 1])
        reach = (int(kernel[axis]) - 1) * dilation[axis] + 1
        total = max((-(-n // strides[axis]) - 1) * strides[axis] + reach - n, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def _padded(x: TFTensor, pads: Sequence[tuple[int, int]]) -> TFTensor:
    return _tf().pad(x, [(0, 0), *pads, (0, 0)])


def _spread(kernel: TFTensor, dilation: Sequence[int]) -> TFTensor:
    """The kernel [height, width, in, out] with `dilation - 1` zeros between its values."""
    tf = _tf()
    for axis, d in enumerate(dilation):
        n = int(kernel.shape[axis])
        at = np.arange(n) * d
        matrix = np.zeros(((n - 1) * d + 1, n), np.float32)
        matrix[at, np.arange(n)] = 1
        kernel = tf.tensordot(tf.constant(matrix), kernel, [[1], [axis]])
        kernel = tf.transpose(kernel, [1, 0, 2, 3]) if axis == 1 else kernel
    return kernel


# --- pools and reductions -----------------------------------------------------------------------------------


@_operator("MAX_POOL_2D")
def max_pool_2d(call: Call) -> TFTensor:
    o = call.options
    window, strides = [o.filterHeight, o.filterWidth], [o.strideH, o.strideW]
    y = _tf().nn.max_pool2d(call.inputs[0], window, strides, PADDING[o.padding])
    return activate(y, o.fusedActivationFunction)


@_operator("AVERAGE_POOL_2D")
def average_pool_2d(call: Call) -> TFTensor:
    o = call.options
    window, strides = [o.filterHeight, o.filterWidth], [o.strideH, o.strideW]
    y = _tf().nn.avg_pool2d(call.inputs[0], window, strides, PADDING[o.padding])
    return activate(y, o.fusedActivationFunction)


def _reduction(name: str) -> Function:
    def reduce(call: Call) -> TFTensor:
        keep = bool(call.options.keepDims) if call.options is not None else False
        return getattr(_tf(), name)(call.inputs[0], axis=call.integers(1), keepdims=keep)

    return reduce


FUNCTIONS["MEAN"] = _reduction("reduce_mean")
FUNCTIONS["SUM"] = _reduction("reduce_sum")
FUNCTIONS["REDUCE_MAX"] = _reduction("reduce_max")
FUNCTIONS["REDUCE_MIN"] = _reduction("reduce_min")
FUNCTIONS["REDUCE_PROD"] = _reduction("reduce_prod")


# --- element by element -------------------------------------------------------------------------------------


def _binary(name: str, fused: bool = False) -> Function:
    def compute(call: Call) -> TFTensor:
        y = getattr(_tf(), name)(call.inputs[0], call.inputs[1])
        return activate(y, call.options.fusedActivationFunction) if fused and call.options else y

    return compute


FUNCTIONS["ADD"] = _binary("add", fused=True)
FUNCTIONS["SUB"] = _binary("subtract", fused=True)
FUNCTIONS["MUL"] = _binary("multiply", fused=True)
FUNCTIONS["DIV"] = _binary("divide", fused=True)
FUNCTIONS["MAXIMUM"] = _binary("maximum")
FUNCTIONS["MINIMUM"] = _binary("minimum")
FUNCTIONS["POW"] = _binary("pow")
FUNCTIONS["SQUARED_DIFFERENCE"] = lambda call: _tf().math.squared_difference(*call.inputs[:2])

FUNCTIONS["RELU"] = lambda call: activate(call.inputs[0], 1)
FUNCTIONS["RELU_N1_TO_1"] = lambda call: activate(call.inputs[0], 2)
FUNCTIONS["RELU6"] = lambda call: activate(call.inputs[0], 3)
FUNCTIONS["RELU_0_TO_1"] = lambda call: _tf().clip_by_value(call.inputs[0], 0.0, 1.0)
FUNCTIONS["TANH"] = lambda call: _tf().tanh(call.inputs[0])
FUNCTIONS["LOGISTIC"] = lambda call: _tf().sigmoid(call.inputs[0])
FUNCTIONS["LEAKY_RELU"] = lambda call: _tf().nn.leaky_relu(call.inputs[0], call.options.alpha)
FUNCTIONS["ELU"] = lambda call: _tf().nn.elu(call.inputs[0])
FUNCTIONS["GELU"] = lambda call: _tf().nn.gelu(call.inputs[0], approximate=bool(call.options.approximate))
FUNCTIONS["SOFTMAX"] = lambda call: _tf().nn.softmax(call.inputs[0] * call.options.beta)
FUNCTIONS["LOG_SOFTMAX"] = lambda call: _tf().nn.log_softmax(call.inputs[0])
FUNCTIONS["EXP"] = lambda call: _tf().exp(call.inputs[0])
FUNCTIONS["LOG"] = lambda call: _tf().math.log(call.inputs[0])
FUNCTIONS["SQRT"] = lambda call: _tf().sqrt(call.inputs[0])
FUNCTIONS["RSQRT"] = lambda call: _tf().math.rsqrt(call.inputs[0])
FUNCTIONS["SQUARE"] = lambda call: _tf().square(call.inputs[0])
FUNCTIONS["NEG"] = lambda call: -call.inputs[0]
FUNCTIONS["ABS"] = lambda call: _tf().abs(call.inputs[0])
FUNCTIONS["SIN"] = lambda call: _tf().sin(call.inputs[0])
FUNCTIONS["COS"] = lambda call: _tf().cos(call.inputs[0])


@_operator("HARD_SWISH")
def hard_swish(call: Call) -> TFTensor:
    x = call.inputs[0]
    return x * _tf().nn.relu6(x + 3.0) / 6.0


@_operator("PRELU")
def prelu(call: Call) -> TFTensor:
    tf, x = _tf(), call.inputs[0]
    return tf.maximum(x, 0.0) + call.inputs[1] * tf.minimum(x, 0.0)


@_operator("L2_NORMALIZATION")
def l2_normalization(call: Call) -> TFTensor:
    tf, x = _tf(), call.inputs[0]
    return x / tf.maximum(tf.sqrt(tf.reduce_sum(tf.square(x), axis=-1, keepdims=True)), 1e-6)


@_operator("BATCH_MATMUL")
def batch_matmul(call: Call) -> TFTensor:
    o = call.options
    return _tf().matmul(call.inputs[0], call.inputs[1], transpose_a=bool(o.adjX), transpose_b=bool(o.adjY))


# --- shapes -------------------------------------------------------------------------------------------------


@_operator("RESHAPE", "SQUEEZE")
def reshape(call: Call) -> TFTensor:
    return _tf().reshape(call.inputs[0], [-1, *call.shapes[0][1:]])


@_operator("EXPAND_DIMS")
def expand_dims(call: Call) -> TFTensor:
    return _tf().expand_dims(call.inputs[0], call.integers(1)[0])


@_operator("CONCATENATION")
def concatenation(call: Call) -> TFTensor:
    y = _tf().concat(list(call.inputs), axis=call.options.axis)
    return activate(y, call.options.fusedActivationFunction)


@_operator("PAD", "PADV2")
def pad(call: Call) -> TFTensor:
    widths = np.asarray(call.integers(1)).reshape(-1, 2).tolist()
    value = call.inputs[2] if call.has(2) else 0.0
    return _tf().pad(call.inputs[0], widths, constant_values=value)


@_operator("MIRROR_PAD")
def mirror_pad(call: Call) -> TFTensor:
    widths = np.asarray(call.integers(1)).reshape(-1, 2).tolist()
    return _tf().pad(call.inputs[0], widths, mode=("REFLECT", "SYMMETRIC")[call.options.mode])


@_operator("TRANSPOSE")
def transpose(call: Call) -> TFTensor:
    return _tf().transpose(call.inputs[0], call.integers(1))


@_operator("SLICE")
def slice_(call: Call) -> TFTensor:
    begin, size = call.integers(1), call.integers(2)
    return _tf().slice(call.inputs[0], [0, *begin[1:]], [-1, *size[1:]])


@_operator("STRIDED_SLICE")
def strided_slice(call: Call) -> TFTensor:
    o = call.options
    return _tf().strided_slice(
        call.inputs[0],
        call.integers(1),
        call.integers(2),
        call.integers(3),
        begin_mask=o.beginMask | 1,  # the whole batch
        end_mask=o.endMask | 1,
        ellipsis_mask=o.ellipsisMask,
        new_axis_mask=o.newAxisMask,
        shrink_axis_mask=o.shrinkAxisMask,
    )


@_operator("SPLIT")
def split(call: Call) -> Any:
    return _tf().split(call.inputs[1], len(call.shapes), axis=call.integers(0)[0])


@_operator("SPLIT_V")
def split_v(call: Call) -> Any:
    return _tf().split(call.inputs[0], call.integers(1), axis=call.integers(2)[0])


@_operator("PACK")
def stack(call: Call) -> TFTensor:
    return _tf().stack(list(call.inputs), axis=call.options.axis)


@_operator("UNPACK")
def unstack(call: Call) -> Any:
    return _tf().unstack(call.inputs[0], num=len(call.shapes), axis=call.options.axis)


@_operator("RESIZE_BILINEAR")
def resize_bilinear(call: Call) -> TFTensor:
    return _tf().raw_ops.ResizeBilinear(
        images=call.inputs[0],
        size=list(call.shapes[0][1:3]),
        align_corners=bool(call.options.alignCorners),
        half_pixel_centers=bool(call.options.halfPixelCenters),
    )


@_operator("RESIZE_NEAREST_NEIGHBOR")
def resize_nearest_neighbor(call: Call) -> TFTensor:
    return _tf().raw_ops.ResizeNearestNeighbor(
        images=call.inputs[0],
        size=list(call.shapes[0][1:3]),
        align_corners=bool(call.options.alignCorners),
        half_pixel_centers=bool(call.options.halfPixelCenters),
    )


@_operator("SPACE_TO_DEPTH")
def space_to_depth(call: Call) -> TFTensor:
    return _tf().nn.space_to_depth(call.inputs[0], call.options.blockSize)


@_operator("DEPTH_TO_SPACE")
def depth_to_space(call: Call) -> TFTensor:
    return _tf().nn.depth_to_space(call.inputs[0], call.options.blockSize)
