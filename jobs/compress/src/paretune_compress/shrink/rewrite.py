"""Taking channels out of the flatbuffer: kernels, biases, shapes, and constants into biases."""

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from .. import flatbuffer as fb
from ..graph.description import layer_name
from ..graph.operators import BIAS_INPUT
from .constants import Known, column_values, weights_of
from .node import Node
from .structure import Flags, Ids, Reader, Structure

Place = tuple[int, int]
"""An operator and one of its inputs."""
Edits = dict[Place, fb.Array]
"""What shall stand there."""


def cut(structure: Structure, kept: Flags, known: Known) -> None:
    """Remove channels from the structure's model in place. Operators and the numbers of tensors stay.

    Args:
        structure: of the model; no longer true of it afterwards.
        kept: True for the channels that stay.
        known: constants; a removed channel that is one goes into the biases of those that read it. Of others
            nothing remains, as if their weights were zero.
    """
    model = structure.model
    edits = _biases(structure, kept, known)
    for operand in structure.operands:
        stays = positions(kept, operand.channels)
        if len(stays) < len(operand.channels):
            place = operand.operator, operand.slot
            value = edits.get(place, fb.constant(model, operand.tensor))
            edits[place] = np.take(np.asarray(value), stays, axis=operand.axis)
    for size in structure.sizes:
        ids = structure.activations[size.tensor]
        count = int(np.count_nonzero(kept[ids]))
        if count == len(ids):
            continue
        if isinstance(size.where, str):
            _set_option(model.subgraphs[0].operators[size.operator].builtinOptions, size.where, count)
        else:
            edits[size.operator, size.where] = _last(Node(model, size.operator), size.where, count)
    for tensor, ids in structure.activations.items():
        _set_channels(model.subgraphs[0].tensors[tensor], int(np.count_nonzero(kept[ids])), len(ids))
    _apply(model, edits)


def positions(kept: Flags, ids: Ids) -> Ids:
    """Positions of an axis that stay."""
    return np.flatnonzero(kept[ids]).astype(np.int64)


# --- constants into biases ----------------------------------------------------------------------------------


def _biases(structure: Structure, kept: Flags, known: Known) -> Edits:
    """Biases that take up removed constants; those that exist are still of their old length."""
    edits: Edits = {}
    for reader in structure.readers:
        extra = _removed_constants(structure, reader, kept, known)
        stays = kept[reader.rows]
        if np.any(extra[stays]):
            own = fb.constant(structure.model, reader.bias)
            place = reader.operator, BIAS_INPUT[Node(structure.model, reader.operator).name]
            edits[place] = (extra[stays] if own is None else own + extra).astype(np.float32)
    return edits


def _removed_constants(
    structure: Structure, reader: Reader, kept: Flags, known: Known
) -> NDArray[np.float64]:
    """What the removed constants add to each row."""
    total: NDArray[np.float64] = np.zeros(len(reader.rows))
    if known:
        columns = column_values(reader, known)
        gone = ~kept[reader.columns] & ~np.isnan(columns) & (columns != 0)
        if gone.any():
            total = weights_of(structure.model, reader).sums[:, gone] @ columns[gone]
    return total


# --- shapes -------------------------------------------------------------------------------------------------


def _set_channels(tensor: fb.Tensor, count: int, before: int) -> None:
    if count == before:
        return
    tensor.shape = [*fb.shape(tensor)[:-1], count]
    signature = tensor.shapeSignature
    if signature is not None and len(signature) and int(signature[-1]) != -1:
        tensor.shapeSignature = [*(int(d) for d in signature[:-1]), count]


def _set_option(options: Any, name: str, count: int) -> None:
    """A number, or the last of a list of them; -1 there says that it is worked out."""
    value = getattr(options, name)
    if np.ndim(value) == 0:
        setattr(options, name, count)
    elif int(value[-1]) != -1:
        setattr(options, name, [*(int(d) for d in value[:-1]), count])


def _last(node: Node, slot: int, count: int) -> fb.Array:
    """The constant sizes at this input with `count` as the last one, unless that is -1."""
    value = np.array(node.constant(slot))
    if value.reshape(-1)[-1] != -1:
        value.reshape(-1)[-1] = count
    return value


# --- writing ------------------------------------------------------------------------------------------------


def _apply(model: fb.Model, edits: Edits) -> None:
    """Put the new constants in place. A tensor whose readers no longer agree is left to the first of them."""
    graph = model.subgraphs[0]
    readers: dict[int, list[Place]] = {}
    for i, op in enumerate(graph.operators):
        for slot, tensor in enumerate(op.inputs):
            readers.setdefault(int(tensor), []).append((i, slot))
    shared = {int(t) for t in graph.outputs}
    done: dict[tuple[int, bytes, tuple[int, ...]], int] = {}
    for (operator, slot), value in sorted(edits.items(), key=lambda edit: edit[0]):
        op = graph.operators[operator]
        tensor = int(op.inputs[slot]) if slot < len(op.inputs) else -1
        key = tensor, value.tobytes(), value.shape
        if tensor < 0:
            target = _added(model, value, f"{layer_name(model, operator)}/bias")
        elif key in done:
            target = done[key]
        elif tensor in shared or any(place not in edits for place in readers[tensor]):
            target = _copied(model, tensor, value)
        else:
            target = tensor
            shared.add(tensor)  # its old value is gone: who wants another one gets a copy
            _replace(model, tensor, value)
        done[key] = target
        inputs = [int(t) for t in op.inputs]
        inputs += [-1] * (slot + 1 - len(inputs))
        inputs[slot] = target
        op.inputs = inputs


def _replace(model: fb.Model, tensor: int, value: fb.Array) -> None:
    model.subgraphs[0].tensors[tensor].shape = list(value.shape)
    fb.set_constant(model, tensor, value)


def _copied(model: fb.Model, tensor: int, value: fb.Array) -> int:
    """The number of a new tensor like this one, with another value."""
    graph = model.subgraphs[0]
    made = copy.copy(graph.tensors[tensor])
    made.name = _free_name(model, fb.tensor_name(made))
    graph.tensors.append(made)
    _replace(model, len(graph.tensors) - 1, value)
    return len(graph.tensors) - 1


def _added(model: fb.Model, value: fb.Array, name: str) -> int:
    """The number of a new float constant."""
    graph = model.subgraphs[0]
    made, buffer = schema.TensorT(), schema.BufferT()
    model.buffers.append(buffer)
    made.name, made.buffer = _free_name(model, name), len(model.buffers) - 1
    graph.tensors.append(made)
    _replace(model, len(graph.tensors) - 1, value)
    return len(graph.tensors) - 1


def _free_name(model: fb.Model, wanted: str) -> str:
    taken = {fb.tensor_name(t) for t in model.subgraphs[0].tensors}
    name, n = wanted, 1
    while name in taken:
        n += 1
        name = f"{wanted}_{n}"
    return name
