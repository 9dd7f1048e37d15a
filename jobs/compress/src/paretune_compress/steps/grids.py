"""Weights that lie on a known grid go into the quantized file as the very integers they are.

A quantizer takes the scale of a tensor from its largest weight. Integers that were trained with scales of
their own would be rounded again, and mean something else; so they are written over what it made.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError

from .. import flatbuffer as fb
from ..graph.description import WeightedOperator, bias_tensor, input_of, weighted_operators

Steps = NDArray[np.float64]
Grids = Mapping[int, Steps]
"""Steps of weight and bias tensors, by index in the float model: one, or one for each output channel."""
GRIDS = "grids.json"
"""The file with the grids, beside the model that was trained on them."""
ON_GRID = 1e-3
FINER = 16


def write_grids(path: Path, grids: Mapping[int, Sequence[float]]) -> None:
    """Write steps as `read_grids` wants them: for each tensor one, or one for each output channel."""
    path.write_text(json.dumps({str(i): list(grids[i]) for i in sorted(grids)}) + "\n")


def read_grids(path: Path) -> dict[int, Steps]:
    """The grids that a trainer wrote beside its model; a number counts as a list of one."""
    return {
        int(i): np.atleast_1d(np.asarray(steps, np.float64))
        for i, steps in json.loads(path.read_text()).items()
    }


def grids_of_channels(grids: Grids, kept: Mapping[int, NDArray[np.int64]]) -> dict[int, list[float]]:
    """The grids of a model from which output channels were removed.

    Args:
        grids: of the model before.
        kept: by tensor the output channels that stayed, where some may have gone.
    """
    return {
        i: [float(s) for s in (steps[kept[i]] if i in kept and len(steps) > 1 else steps)]
        for i, steps in grids.items()
    }


def write_integers(quantized: fb.Model, source: fb.Model, grids: Grids) -> None:
    """Put integers and scales of the grids in place of those that the quantizer chose.

    Biases count in the product of the scales of input and weights, as interpreters want it. One that has a
    grid takes multiples of the power of two that is nearest below its step in these units.

    Args:
        quantized: made from `source`; changed in place.
        source: the float model whose weights lie on the grids.
        grids: steps by tensor index in `source`.

    Raises:
        StageError: INTERNAL when a weight is off its grid, or the integers or the number of steps do not fit
            the quantized tensor.
    """
    floats, made = weighted_operators(source), weighted_operators(quantized)
    for before, after in zip(floats, made, strict=True):
        steps = grids.get(before.tensors[0])
        if steps is not None:
            _write_weights(quantized, source, before, after, steps)
            _write_bias(quantized, source, before, after, grids)


def _write_weights(
    quantized: fb.Model, source: fb.Model, before: WeightedOperator, after: WeightedOperator, steps: Steps
) -> None:
    index = after.tensors[0]
    tensor = quantized.subgraphs[0].tensors[index]
    if fb.type_name(tensor) not in ("INT8", "INT4"):
        return  # this layer keeps its floats
    values = fb.constant(source, before.tensors[0])
    assert values is not None
    whole = values.astype(np.float64) / _along_channels(steps, tensor, before)
    integers = np.rint(whole)
    most = 7 if fb.type_name(tensor) == "INT4" else 127
    if np.abs(whole - integers).max(initial=0) > ON_GRID or np.abs(integers).max(initial=0) > most:
        raise StageError(
            Reason.INTERNAL,
            f"the weights of operator {before.index} ({before.operator}) are no multiples of "
            f"{', '.join(f'{step:g}' for step in steps[:3])} within {most}",
        )
    fb.set_constant(quantized, index, integers.astype(np.int8))
    _set_scales(tensor, steps)


def _along_channels(steps: Steps, tensor: fb.Tensor, operator: WeightedOperator) -> Steps:
    """The steps in a shape that goes with the weights."""
    if len(steps) == 1:
        return steps
    dims, axis = [1] * len(fb.shape(tensor)), int(tensor.quantization.quantizedDimension)
    if not len(steps) == len(fb.scales(tensor)) == fb.shape(tensor)[axis]:
        raise StageError(
            Reason.INTERNAL,
            f"the weights of operator {operator.index} ({operator.operator}) were trained with {len(steps)} "
            f"steps, and the quantized tensor has {len(fb.scales(tensor))} scales along axis {axis} of "
            f"{list(fb.shape(tensor))}",
        )
    dims[axis] = len(steps)
    return steps.reshape(dims)


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
    entering = graph.tensors[input_of(quantized, after)]
    scale = float(fb.scales(entering)[0]) * fb.scales(graph.tensors[after.tensors[0]]).astype(np.float64)
    values = fb.constant(source, from_bias)
    assert values is not None
    step = grids.get(from_bias, scale)
    whole = values.astype(np.float64) / step
    if from_bias in grids and np.abs(whole - np.rint(whole)).max(initial=0) > ON_GRID:
        step = step / FINER  # it took in what removed channels gave, and lies between its levels since
    coarse = np.exp2(np.maximum(np.floor(np.log2(step / scale) + 1e-6), 0.0))
    integers = np.rint(values.astype(np.float64) / (scale * coarse)) * coarse
    limit = np.iinfo(np.int32).max
    fb.set_constant(quantized, to_bias, np.clip(integers, -limit, limit).astype(fb.NUMPY_TYPES[kind]))
    _set_scales(tensor, scale)


def _set_scales(tensor: fb.Tensor, scales: Steps) -> None:
    """One scale stands as often as the tensor had scales."""
    count = max(1, len(fb.scales(tensor)), len(scales))
    if tensor.quantization is None:
        tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale = [float(s) for s in np.broadcast_to(scales.astype(np.float32), count)]
    tensor.quantization.zeroPoint = [0] * count
