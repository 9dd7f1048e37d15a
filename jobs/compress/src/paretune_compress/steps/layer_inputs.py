"""What enters single layers of a model while it runs over data, in real numbers."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from .. import flatbuffer as fb
from ..data import PreparedSplit
from ..graph.description import WeightedOperator
from ..graph.signature import ordered_inputs
from ..quality.model import EvaluatedModel, dequantized, quantized

Values = NDArray[np.float32]
BATCH = 16
PART = "part.tflite"


def layer_inputs(
    model: fb.Model,
    tensors: Sequence[int],
    data: PreparedSplit,
    indices: NDArray[np.int64],
    folder: Path,
    *,
    threads: int,
) -> Iterator[dict[int, Values]]:
    """Values of activations, batch by batch; only the operators that lead to them run, by the usual kernels.

    Args:
        model: float or quantized.
        tensors: indices of activations.
        data: what the model runs on.
        indices: of the samples.
        folder: where a part of the model is put meanwhile.
        threads: of LiteRT.

    Returns:
        For each batch, by tensor, float32 [n, ...]: of each sample what the tensor holds while it runs,
        without a leading axis of one. `as_read` brings it into the form of an operator. Integers are times
        their scale.

    Raises:
        StageError: NOT_RUNNABLE when the runtime refuses.
    """
    graph = model.subgraphs[0]
    ends = [int(t) for t in graph.inputs]
    inner = [t for t in dict.fromkeys(tensors) if t not in ends]
    path = folder / PART
    fb.write(_part(model, inner) if inner else model, path)
    runner = EvaluatedModel(path, threads)
    for batch in data.batches(BATCH, indices=indices):
        arrays = ordered_inputs(model, batch.inputs)
        found: dict[int, Values] = {}
        if inner:
            named = {port.name: array for port, array in zip(runner.inputs, arrays, strict=True)}
            found = dict(zip(inner, runner(named).values(), strict=True))
        for end, port, array in zip(ends, runner.inputs, arrays, strict=True):
            if end in tensors:
                found[end] = dequantized(quantized(array, port), port)
        yield found
    path.unlink()


def as_read(model: fb.Model, layer: WeightedOperator, values: Values) -> Values:
    """Values of a layer's input as its operator takes them, whatever axes stand in front.

    One sample may be many for the operator: in front of a dilated convolution the converter makes a batch of
    the places that go together (SPACE_TO_BATCH_ND), more often than not behind a stated axis of one.

    Args:
        model: float or quantized.
        layer: of it.
        values: what `layer_inputs` gives, or the same of one sample.

    Returns:
        [rows, inputs] of a fully connected operator, [rows, height, width, channels] of a convolution.
    """
    shape = fb.shape(model.subgraphs[0].tensors[layer.tensors[0]])
    kept = shape[-1:] if layer.operator == "FULLY_CONNECTED" else values.shape[-3:]
    return values.reshape(-1, *kept)


def _part(model: fb.Model, tensors: Sequence[int]) -> fb.Model:
    """The operators of a model that some tensors need, with these as outputs."""
    graph = model.subgraphs[0]
    producer = {int(t): i for i, op in enumerate(graph.operators) for t in op.outputs}
    waiting, needed = list(tensors), set[int]()
    while waiting:
        i = producer.get(waiting.pop())
        if i is not None and i not in needed:
            needed.add(i)
            waiting += [int(t) for t in graph.operators[i].inputs if int(t) >= 0]
    part, subgraph = copy.copy(model), copy.copy(graph)
    subgraph.operators = [op for i, op in enumerate(graph.operators) if i in needed]
    subgraph.outputs = list(tensors)
    part.subgraphs = [subgraph, *model.subgraphs[1:]]
    used = {graph.tensors[int(t)].buffer for op in subgraph.operators for t in op.inputs if int(t) >= 0}
    used |= {tensor.buffer for other in model.subgraphs[1:] for tensor in other.tensors}
    part.buffers = [buffer if i in used else schema.BufferT() for i, buffer in enumerate(model.buffers)]
    part.metadata, part.metadataBuffer = None, None
    part.signatureDefs = [_renamed(s, tensors) for s in model.signatureDefs or [] if s.subgraphIndex == 0][:1]
    return part


def _renamed(signature: schema.SignatureDefT, tensors: Sequence[int]) -> schema.SignatureDefT:
    """The signature with its inputs, and outputs that go by their place: each has a name of its own."""
    changed = copy.copy(signature)
    changed.outputs = []
    for place, tensor in enumerate(tensors):
        end = schema.TensorMapT()
        end.name, end.tensorIndex = f"{place:06d}", tensor
        changed.outputs.append(end)
    return changed
