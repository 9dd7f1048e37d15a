"""Weights that lie on a known grid go into the quantized file as the very integers they are.

A quantizer takes the scale of a tensor from its largest weight. Integers that were trained with a scale of
their own would be rounded again, and mean something else; so they are written over what it made.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import Scheme

from .. import flatbuffer as fb
from ..graph.description import WeightedOperator, bias_tensor, weighted_operators
from .calibration import Ranges

Grids = Mapping[int, float]
"""Step of each weight and bias tensor, by its index in the float model."""
CLIPPED = 1.15
"""An activation may reach this far beyond the range of a power of two before that is doubled: the few values
beyond are clipped, and all others keep twice the resolution."""
ON_GRID = 1e-3


def read_grids(path: Path) -> dict[int, float]:
    """The grids that a trainer wrote beside its model."""
    return {int(i): float(step) for i, step in json.loads(path.read_text()).items()}


def powers_of_two(ranges: Ranges, scheme: Scheme) -> Ranges:
    """Ranges whose scales are powers of two: they cost next to nothing in the coded file.

    Args:
        ranges: of the activations as they were seen.
        scheme: a static one; int16 activations are symmetric.
    """
    low, high = ranges.low.astype(np.float64), ranges.high.astype(np.float64)
    for k in range(len(low)):
        low[k], high[k] = _widened(min(low[k], 0.0), max(high[k], 0.0), scheme)
    return Ranges(ranges.names, low.astype(np.float32), high.astype(np.float32))


def _widened(low: float, high: float, scheme: Scheme) -> tuple[float, float]:
    if scheme is Scheme.INT16X8:
        scale = _power(max(high, -low) / 32767)
        return -32767 * scale, 32767 * scale
    scale = _power((high - low) / 255 / CLIPPED)
    if low < 0 and max(high, -low) / 127 / CLIPPED <= scale:
        return -128 * scale, 127 * scale  # a zero point of zero where that costs no resolution
    zero_point = max(-128, min(127, round(-128 - low / scale)))
    return (-128 - zero_point) * scale, (127 - zero_point) * scale


def _power(scale: float) -> float:
    """The power of two at or above a scale."""
    return float(2.0 ** math.ceil(math.log2(max(scale, 2.0**-40))))


def write_integers(quantized: fb.Model, source: fb.Model, grids: Grids) -> None:
    """Put integers and scales of the grids in place of those that the quantizer chose.

    Integer biases take multiples of a power of two that is nearest below their grid's step.

    Args:
        quantized: made from `source`; changed in place.
        source: the float model whose weights lie on the grids.
        grids: steps by tensor index in `source`.

    Raises:
        StageError: INTERNAL when a weight is off its grid or the integers do not fit their type.
    """
    floats, made = weighted_operators(source), weighted_operators(quantized)
    for before, after in zip(floats, made, strict=True):
        step = grids.get(before.tensors[0])
        if step is not None:
            _write_weights(quantized, source, before, after, step)
            _write_bias(quantized, source, before, after, grids)


def _write_weights(
    quantized: fb.Model, source: fb.Model, before: WeightedOperator, after: WeightedOperator, step: float
) -> None:
    index = after.tensors[0]
    tensor = quantized.subgraphs[0].tensors[index]
    if fb.type_name(tensor) not in ("INT8", "INT4"):
        return  # this layer keeps its floats
    values = fb.constant(source, before.tensors[0])
    assert values is not None
    whole = values.astype(np.float64) / step
    integers = np.rint(whole)
    most = 7 if fb.type_name(tensor) == "INT4" else 127
    if np.abs(whole - integers).max(initial=0) > ON_GRID or np.abs(integers).max(initial=0) > most:
        raise StageError(
            Reason.INTERNAL,
            f"the weights of operator {before.index} ({before.operator}) are no multiples of {step:g} "
            f"within {most}",
        )
    fb.set_constant(quantized, index, integers.astype(np.int8))
    _set_scales(tensor, step)


def _write_bias(
    quantized: fb.Model,
    source: fb.Model,
    before: WeightedOperator,
    after: WeightedOperator,
    grids: Grids,
) -> None:
    from_bias, to_bias = bias_tensor(source, before), bias_tensor(quantized, after)
    if from_bias is None or to_bias is None:
        return
    graph = quantized.subgraphs[0]
    tensor = graph.tensors[to_bias]
    kind = fb.type_name(tensor)
    if kind not in ("INT32", "INT64"):
        return
    entering = graph.tensors[int(graph.operators[after.index].inputs[0])]
    scale = float(fb.scales(entering)[0]) * float(fb.scales(graph.tensors[after.tensors[0]])[0])
    values = fb.constant(source, from_bias)
    assert values is not None
    step = grids.get(from_bias, scale)
    coarse = 2 ** max(0, math.floor(math.log2(step / scale) + 1e-6))
    integers = np.rint(values.astype(np.float64) / (scale * coarse)) * coarse
    limit = np.iinfo(np.int32).max
    fb.set_constant(quantized, to_bias, np.clip(integers, -limit, limit).astype(fb.NUMPY_TYPES[kind]))
    _set_scales(tensor, scale)


def _set_scales(tensor: fb.Tensor, scale: float) -> None:
    count = max(1, len(fb.scales(tensor)))
    if tensor.quantization is None:
        tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = [float(np.float32(scale))] * count
    tensor.quantization.zeroPoint = [0] * count
