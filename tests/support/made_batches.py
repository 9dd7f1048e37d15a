"""Networks inside which one sample becomes a batch, or shapes are computed, as converters write them."""

from pathlib import Path

import numpy as np

from .made_tflite import ModelBuilder, convolution, options


def dilated_by_batches(path: Path, stated: int = 1) -> Path:
    """A dilated convolution as the converter writes it: places that go together become a batch of four.

    Args:
        path: of the model.
        stated: the leading axis as the file states it; with an open batch axis the converter says one.
    """
    rng = np.random.default_rng(0)
    b = ModelBuilder()
    (x,) = b.operator("RELU", [b.input("image", (1, 8, 8, 4))], [("positive", (1, 8, 8, 4))])
    block, around = b.constant("block", [2, 2], "int32"), b.constant("around", [[2, 2], [2, 2]], "int32")
    (x,) = b.operator("SPACE_TO_BATCH_ND", [x, block, around], [("apart", (stated, 6, 6, 4))])
    kernel, bias = b.constant("wide/w", rng.normal(0, 0.2, (8, 3, 3, 4))), b.constant("wide/b", np.zeros(8))
    valid = convolution(padding=1)
    (x,) = b.operator("CONV_2D", [x, kernel, bias], [("wide", (stated, 4, 4, 8))], valid)
    block, crops = b.constant("block2", [2, 2], "int32"), b.constant("crops", [[0, 0], [0, 0]], "int32")
    (x,) = b.operator("BATCH_TO_SPACE_ND", [x, block, crops], [("together", (1, 8, 8, 8))])
    return _ended(b, x, path)


def upsampled(path: Path, stated: tuple[int, ...] = (1, 16, 16, 6)) -> Path:
    """A transposed convolution whose output shape is computed, as converters write it for an open batch axis.

    Args:
        path: of the model.
        stated: shape of its output as the file states it.
    """
    b = ModelBuilder()
    (x,) = b.operator("RELU", [b.input("image", (1, 8, 8, 4))], [("positive", (1, 8, 8, 4))])
    (shape,) = b.operator("SHAPE", [x], [("shape", (4,))], options("ShapeOptions", outType=2))
    begin, end, one = (b.constant(n, [v], "int32") for n, v in (("begin", 0), ("end", 1), ("one", 1)))
    first = options("StridedSliceOptions", shrinkAxisMask=1)
    (batch,) = b.operator("STRIDED_SLICE", [shape, begin, end, one], [("batch", ())], first)
    side, channels = b.constant("side", 16, "int32"), b.constant("channels", 6, "int32")
    packed = options("PackOptions", valuesCount=4, axis=0)
    (wanted,) = b.operator("PACK", [batch, side, side, channels], [("wanted", (4,))], packed)
    for computed in (shape, batch, wanted):
        b.graph.tensors[computed].type = 2
    rng = np.random.default_rng(0)
    kernel, bias = b.constant("up/w", rng.normal(0, 0.2, (6, 3, 3, 4))), b.constant("up/b", np.zeros(6))
    up = options("TransposeConvOptions", strideH=2, strideW=2)
    (x,) = b.operator("TRANSPOSE_CONV", [wanted, kernel, x, bias], [("up", stated)], up, version=3)
    return _ended(b, x, path)


def _ended(b: ModelBuilder, x: int, path: Path) -> Path:
    """Mean over the image, three classes."""
    channels = b.graph.tensors[x].shape[-1]
    axes = b.constant("axes", [1, 2], "int32")
    (x,) = b.operator("MEAN", [x, axes], [("mean", (1, channels))], options("ReducerOptions"))
    w = b.constant("last/w", np.random.default_rng(1).normal(0, 0.5, (3, channels)))
    inputs = [x, w, b.constant("last/b", np.zeros(3))]
    (x,) = b.operator("FULLY_CONNECTED", inputs, [("last", (1, 3))], options("FullyConnectedOptions"))
    (x,) = b.operator("SOFTMAX", [x], [("scores", (1, 3))], options("SoftmaxOptions", beta=1.0))
    b.output(x)
    return b.save(path)
