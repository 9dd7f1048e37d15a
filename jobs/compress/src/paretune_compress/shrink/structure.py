"""Which slices of which tensors are one channel.

The last axis of every activation has a channel at each position. Slices that can only be removed together
(the two operands of an addition, a kernel's row and what it computes, the columns behind a flatten) have
the same channel. Rules collect this in `Channels`; `Channels.settled` gives the finished `Structure`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from .. import flatbuffer as fb
from ..graph.operators import BIAS_INPUT, WEIGHT_INPUT
from .node import Node, expect

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Role(StrEnum):
    """What a constant is to its channels."""

    ROW = "row"
    """Weights that compute the channel."""
    COLUMN = "column"
    """Weights that read the channel."""
    BIAS = "bias"
    VECTOR = "vector"
    """A number for each channel in an element-wise operator."""


@dataclass(frozen=True)
class Operand:
    """A constant at an operator's input with the channel at each position of one of its axes."""

    operator: int
    slot: int
    tensor: int
    axis: int
    role: Role
    channels: Ids


@dataclass(frozen=True)
class Reader:
    """An operator whose every output channel is a weighted sum over all input channels.

    source: the activation it reads; the kernel may see each of its channels several times (flatten).
    kernel, bias: tensors; the bias is -1 where there is none.
    columns, rows: the channel behind each index of the kernel's last and first axis.
    border: some outputs see fewer weights than others, so that a constant input channel other than zero
        gives no constant.
    """

    operator: int
    source: int
    kernel: int
    bias: int
    columns: Ids
    rows: Ids
    border: bool


@dataclass(frozen=True)
class Size:
    """Where the number of channels of `tensor` stands as a number: an input, or a field of the options."""

    operator: int
    where: int | str
    tensor: int


@dataclass(frozen=True)
class Structure:
    """The channels of a model.

    count: how many there are; they are numbered from 0 in the order of the graph.
    frozen: those that must stay, because the model's ends or an operator without a rule have them.
    activations: the channel at each position of the tensor's last axis.
    understood: operators with a rule.
    """

    model: fb.Model
    count: int
    frozen: Flags
    activations: Mapping[int, Ids]
    operands: tuple[Operand, ...]
    readers: tuple[Reader, ...]
    sizes: tuple[Size, ...]
    understood: frozenset[int]


class Channels:
    """What the rules have found so far. Ids are provisional until `settled`."""

    def __init__(self, model: fb.Model) -> None:
        self._model = model
        self._tensors = model.subgraphs[0].tensors
        self._parent: list[int] = []
        self._frozen: list[Ids] = []
        self._activations: dict[int, Ids] = {}
        self._kernels: dict[tuple[int, int], Ids] = {}
        self._operands: list[Operand] = []
        self._readers: list[Reader] = []
        self._sizes: list[Size] = []

    def of(self, tensor: int) -> Ids:
        """The channels along the last axis of an activation.

        What no rule gave channels to (inputs, variables) gets some that stay.
        """
        if tensor not in self._activations:
            dims = fb.shape(self._tensors[tensor])
            self._activations[tensor] = self._fresh(dims[-1] if dims else 0)
            self.freeze(self._activations[tensor])
        return self._activations[tensor]

    def give(self, tensor: int, ids: Ids) -> None:
        """Say what the channels of an operator's output are.

        Raises:
            NotUnderstoodError: when the tensor has another number of them, or no floats.
        """
        dims = fb.shape(self._tensors[tensor])
        expect(bool(dims) and dims[-1] == len(ids) and fb.type_name(self._tensors[tensor]) == "FLOAT32")
        expect(tensor not in self._activations and not self._tensors[tensor].isVariable)
        self._activations[tensor] = ids

    def merge(self, one: Ids, other: Ids) -> None:
        """These channels are the same, position by position."""
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            first, second = self._root(a), self._root(b)
            if first != second:  # the older id wins, so that numbers follow the graph
                self._parent[max(first, second)] = min(first, second)

    def freeze(self, ids: Ids) -> None:
        """These channels must stay."""
        self._frozen.append(ids)

    def kernel_axis(self, tensor: int, axis: int) -> Ids:
        """The channels along an axis of a kernel: the same for all operators that share it."""
        at = (tensor, axis)
        if at not in self._kernels:
            self._kernels[at] = self._fresh(fb.shape(self._tensors[tensor])[axis])
        return self._kernels[at]

    def freeze_kernel(self, tensor: int) -> None:
        """An operator without a rule reads this constant."""
        for axis in range(len(fb.shape(self._tensors[tensor]))):
            self.freeze(self.kernel_axis(tensor, axis))

    def computed(self, node: Node, axis: int) -> Ids:
        """Record that the kernel's slices along `axis` compute the output's channels, and give it those.

        Raises:
            NotUnderstoodError: when bias, kernel and output do not fit together.
        """
        slot, bias = WEIGHT_INPUT[node.name], BIAS_INPUT[node.name]
        size = node.floats(slot).shape[axis]
        expect(not node.has(bias) or node.floats(bias).shape == (size,))
        rows = self.kernel_axis(node.inputs[slot], axis)
        self.give(node.outputs[0], rows)
        self.operand(node, slot, axis, Role.ROW, rows)
        if node.has(bias):
            self.operand(node, bias, 0, Role.BIAS, rows)
        return rows

    def read(self, node: Node, source: int, border: bool) -> None:
        """Record that the operator sums over the channels of `source`, with a kernel [rows, ..., columns].

        Raises:
            NotUnderstoodError: when the kernel's columns are no multiple of the channels.
        """
        slot, bias = WEIGHT_INPUT[node.name], BIAS_INPUT[node.name]
        kernel, ids = node.floats(slot), self.of(source)
        expect(len(ids) > 0 and kernel.shape[-1] % len(ids) == 0)
        rows = self.computed(node, 0)
        columns = self.kernel_axis(node.inputs[slot], kernel.ndim - 1)
        self.merge(columns, np.tile(ids, len(columns) // len(ids)))
        self.operand(node, slot, kernel.ndim - 1, Role.COLUMN, columns)
        self._readers.append(
            Reader(
                operator=node.index,
                source=source,
                kernel=node.inputs[slot],
                bias=node.inputs[bias] if node.has(bias) else -1,
                columns=columns,
                rows=rows,
                border=border,
            )
        )

    def operand(self, node: Node, slot: int, axis: int, role: Role, ids: Ids) -> None:
        self._operands.append(Operand(node.index, slot, node.inputs[slot], axis, role, ids))

    def size(self, node: Node, where: int | str, tensor: int) -> None:
        self._sizes.append(Size(node.index, where, tensor))

    def settled(self, understood: frozenset[int]) -> Structure:
        """The structure, with channels numbered anew without gaps."""
        roots = np.array([self._root(i) for i in range(len(self._parent))], np.int64)
        found, number = np.unique(roots, return_inverse=True)
        number = number.reshape(-1).astype(np.int64)
        frozen = np.zeros(len(found), np.bool_)
        for ids in self._frozen:
            frozen[number[ids]] = True
        return Structure(
            model=self._model,
            count=len(found),
            frozen=frozen,
            activations={t: number[ids] for t, ids in self._activations.items()},
            operands=tuple(replace(o, channels=number[o.channels]) for o in self._operands),
            readers=tuple(replace(r, columns=number[r.columns], rows=number[r.rows]) for r in self._readers),
            sizes=tuple(self._sizes),
            understood=understood,
        )

    def _fresh(self, n: int) -> Ids:
        start = len(self._parent)
        self._parent.extend(range(start, start + n))
        return np.arange(start, start + n, dtype=np.int64)

    def _root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i
