"""Biases that take up the mean error of a layer's outputs.

Rounded weights move the outputs of a channel not only to and fro but also to one side, by the mean of its
inputs times the errors of its weights. This part of the error is known on calibration data, and the bias can
take it back (Nagel et al. 2019, "Data-free quantization through weight equalization and bias correction",
section 4.2, in the empirical form of its appendix D).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import INTEGER_SCHEMES

from .. import flatbuffer as fb
from ..data import PreparedSplit
from ..graph.description import (
    WeightedOperator,
    bias_tensor,
    has_integer_weights,
    input_of,
    layer_name,
    weighted_operators,
)
from ..graph.operators import BIAS_INPUT, SHAPE_INPUTS, WEIGHT_INPUT
from ..layers import LayerPlan
from ..runtime import open_interpreter, run_interpreter
from .layer_inputs import Values, as_read, layer_inputs

Channels = NDArray[np.float64]
ALONE = "layer.tflite"


@dataclass(frozen=True)
class Correction:
    """What was corrected.

    layers: with integer weights.
    corrected: those of them that have a bias.
    """

    layers: int
    corrected: int

    def sentence(self) -> str:
        """For people: `the biases of 4 of 5 layers take up the mean error of their outputs`."""
        rest = "" if self.corrected == self.layers else f" of {self.layers}"
        return f"the biases of {self.corrected}{rest} layers take up the mean error of their outputs"


def correct_biases(
    source: fb.Model,
    quantized: fb.Model,
    plans: Sequence[LayerPlan],
    data: PreparedSplit,
    indices: NDArray[np.int64],
    folder: Path,
    *,
    threads: int,
) -> Correction:
    """Correct the bias of each layer with integer weights, in the order in which they run.

    The error of a layer is what it makes of its inputs in the quantized model, whose layers before it are
    corrected by then, less what the float layer makes of its own. Both are taken before the activation, as
    means over the samples and over all places of a channel. A layer is linear, so the mean of its outputs is
    its output for the mean input, and each model runs over the data without a look at the outputs. Inputs
    that a dynamic kernel rounds while it runs count as they enter; that rounding errs to no side.

    Args:
        source: the float model.
        quantized: made from `source`; changed in place.
        plans: of the layers.
        data: for calibration.
        indices: of the samples.
        folder: where parts of the models are put meanwhile.
        threads: of LiteRT.

    Raises:
        StageError: NO_EFFECT when no layer with integer weights has a bias; NOT_RUNNABLE when the runtime
            refuses a part of a model.
    """
    pairs = [
        (before, after)
        for plan, before, after in zip(
            plans, weighted_operators(source), weighted_operators(quantized), strict=True
        )
        if plan.scheme in INTEGER_SCHEMES and has_integer_weights(quantized, after)
    ]
    biased = [(b, a) for b, a in pairs if bias_tensor(quantized, a) is not None]
    if not biased:
        raise StageError(
            Reason.NO_EFFECT,
            f"quantization.biasCorrection: of {len(pairs)} layers with integer weights none has a bias that "
            "could take up an error; leave it out",
        )
    floats = _means(source, [input_of(source, b) for b, _ in biased], data, indices, folder, threads)
    known: dict[int, Values] = {}
    for before, after in biased:
        enters = input_of(quantized, after)
        if enters not in known:
            known = _means(quantized, [enters], data, indices, folder, threads)
        right = _output(source, before, _weights(source, before), floats[input_of(source, before)], folder)
        found = _output(source, before, _weights(quantized, after), known[enters], folder)
        error = found - right + _bias(quantized, after) - _bias(source, before)
        _lower_bias(quantized, after, error)
    return Correction(len(pairs), len(biased))


def _means(
    model: fb.Model,
    tensors: Sequence[int],
    data: PreparedSplit,
    indices: NDArray[np.int64],
    folder: Path,
    threads: int,
) -> dict[int, Values]:
    """Means of activations over the samples, float32, each like one sample's."""
    sums: dict[int, NDArray[np.float64]] = {}
    for batch in layer_inputs(model, tensors, data, indices, folder, threads=threads):
        for t, values in batch.items():
            sums[t] = sums.get(t, 0.0) + values.sum(axis=0, dtype=np.float64)
    return {t: (total / len(indices)).astype(np.float32) for t, total in sums.items()}


def _weights(model: fb.Model, layer: WeightedOperator) -> Values:
    """The layer's weights in real numbers."""
    index = layer.tensors[0]
    tensor, stored = model.subgraphs[0].tensors[index], fb.constant(model, index)
    assert stored is not None
    scales = fb.scales(tensor)
    if not len(scales):
        return stored.astype(np.float32)
    dims = [1] * stored.ndim
    if len(scales) > 1:
        dims[int(tensor.quantization.quantizedDimension)] = len(scales)
    real: Values = stored.astype(np.float32) * scales.reshape(dims)
    return real


def _bias(model: fb.Model, layer: WeightedOperator) -> Channels | float:
    """The layer's bias in real numbers; 0 where the float layer has none."""
    index = bias_tensor(model, layer)
    if index is None:
        return 0.0
    stored = fb.constant(model, index)
    assert stored is not None
    scales = fb.scales(model.subgraphs[0].tensors[index]).astype(np.float64)
    return stored.astype(np.float64) * (scales if len(scales) else 1.0)


def _lower_bias(model: fb.Model, layer: WeightedOperator, error: Channels) -> None:
    """Take the error of each channel from the bias, to the nearest that it can say."""
    index = _own_bias(model, layer)
    tensor, stored = model.subgraphs[0].tensors[index], fb.constant(model, index)
    assert stored is not None
    if np.issubdtype(stored.dtype, np.floating):
        fb.set_constant(model, index, (stored - error).astype(stored.dtype))
        return
    scales = fb.scales(tensor).astype(np.float64)
    limit = np.iinfo(np.int32).max  # kernels of int16 activations keep int64 biases within it as well
    lowered = np.clip(np.rint(stored - error / scales), -limit, limit)
    fb.set_constant(model, index, lowered.astype(stored.dtype))


def _own_bias(model: fb.Model, layer: WeightedOperator) -> int:
    """Index of a bias that no other operator reads; the converter lets equal ones be one tensor."""
    graph, at = model.subgraphs[0], BIAS_INPUT[layer.operator]
    op = graph.operators[layer.index]
    index = int(op.inputs[at])
    if sum(int(t) == index for other in graph.operators for t in other.inputs) > 1:
        tensor = copy.copy(graph.tensors[index])
        name = f"{fb.tensor_name(tensor)}/{layer.index}"
        tensor.name = name.encode() if isinstance(tensor.name, bytes) else name
        graph.tensors.append(tensor)
        index = len(graph.tensors) - 1
        op.inputs = [index if j == at else int(t) for j, t in enumerate(op.inputs)]
    return index


def _output(
    source: fb.Model, layer: WeightedOperator, weights: Values, value: Values, folder: Path
) -> Channels:
    """Mean of each output channel of a float layer, without bias and activation, for one sample."""
    path, entering = folder / ALONE, as_read(source, layer, value)
    fb.write(_alone(source, layer, weights, entering.shape), path)
    try:
        (made,) = run_interpreter(open_interpreter(path, threads=1), [entering])
    except (StageError, RuntimeError, ValueError) as error:
        raise StageError(
            Reason.NOT_RUNNABLE,
            f"quantization.biasCorrection runs each layer by itself, and {layer_name(source, layer.index)!r} "
            f"({layer.operator}) does not run: {' '.join(str(error).split())[:300]}",
        ) from error
    finally:
        path.unlink()
    mean: Channels = made.reshape(-1, made.shape[-1]).mean(axis=0, dtype=np.float64)
    return mean


def _alone(source: fb.Model, layer: WeightedOperator, weights: Values, entering: tuple[int, ...]) -> fb.Model:
    """A model of one layer with other weights, for an input of a shape."""
    graph, at = source.subgraphs[0], WEIGHT_INPUT[layer.operator]
    bias_at = BIAS_INPUT[layer.operator]
    op = copy.copy(graph.operators[layer.index])
    op.builtinOptions = copy.copy(op.builtinOptions)
    if hasattr(op.builtinOptions, "fusedActivationFunction"):
        op.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
    enters = input_of(source, layer)
    alone, part = schema.ModelT(), schema.SubGraphT()
    alone.version, alone.subgraphs, alone.buffers = 3, [part], [schema.BufferT()]
    alone.operatorCodes = [source.operatorCodes[op.opcodeIndex]]
    op.opcodeIndex, part.operators, part.tensors = 0, [op], []

    def put(index: int, constant: fb.Array | None, shape: tuple[int, ...] | None = None) -> int:
        tensor = copy.copy(graph.tensors[index])
        tensor.buffer = 0
        if shape is not None:
            tensor.shape, tensor.shapeSignature = list(shape), None
        if constant is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(constant).tobytes(), np.uint8)
            alone.buffers.append(buffer)
            tensor.buffer = len(alone.buffers) - 1
        part.tensors.append(tensor)
        return len(part.tensors) - 1

    leaves = (entering[0], *fb.shape(graph.tensors[int(op.outputs[0])])[1:])
    inputs = []
    for j, t in enumerate(int(t) for t in op.inputs):
        constant = weights if j == at else fb.constant(source, t)
        if j == bias_at and constant is not None:
            constant = np.zeros_like(constant)
        if j in SHAPE_INPUTS.get(layer.operator, ()):  # other operators may compute it
            constant = np.array(leaves, np.int32)
        if t == enters:
            inputs.append(put(t, None, entering))
            part.inputs = [inputs[-1]]
        else:
            inputs.append(-1 if t < 0 else put(t, constant))
    op.inputs = inputs
    op.outputs = part.outputs = [put(int(op.outputs[0]), None)]
    return alone
