"""One operator of the graph, with what the rules ask about it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import flatbuffer as fb

VALID = 1
"""The schema's number for padding VALID."""


class NotUnderstoodError(Exception):
    """A variant of an operator that no rule covers: its channels stay."""


def expect(condition: bool) -> None:
    """Give up on the operator unless the condition holds.

    Raises:
        NotUnderstoodError: when it does not.
    """
    if not condition:
        raise NotUnderstoodError


@dataclass(frozen=True)
class Node:
    """The operator number `index` of the first subgraph."""

    model: fb.Model
    index: int

    @property
    def _operator(self) -> fb.Operator:
        return self.model.subgraphs[0].operators[self.index]

    @property
    def name(self) -> str:
        return fb.operator_name(self.model, self._operator)

    @property
    def options(self) -> Any:
        """The operator's table of options.

        Raises:
            NotUnderstoodError: when it has none.
        """
        expect(self._operator.builtinOptions is not None)
        return self._operator.builtinOptions

    def option(self, name: str, default: Any) -> Any:
        """One option, or the default where the operator has no such."""
        return getattr(self._operator.builtinOptions, name, default)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tensor indices, -1 where an operand is left out."""
        return tuple(int(t) for t in self._operator.inputs)

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(int(t) for t in self._operator.outputs)

    def has(self, slot: int) -> bool:
        return slot < len(self.inputs) and self.inputs[slot] >= 0

    def shape(self, tensor: int) -> tuple[int, ...]:
        return fb.shape(self.model.subgraphs[0].tensors[tensor])

    def constant(self, slot: int) -> fb.Array | None:
        """Values of the constant at this input; None for activations and where nothing is."""
        return fb.constant(self.model, self.inputs[slot]) if self.has(slot) else None

    def integers(self, slot: int) -> list[int]:
        """The constant integers at this input as a flat list.

        Raises:
            NotUnderstoodError: when they are computed.
        """
        value = self.constant(slot)
        if value is None:
            raise NotUnderstoodError
        return [int(v) for v in value.reshape(-1)]

    def floats(self, slot: int) -> fb.Array:
        """The float32 constant at this input.

        Raises:
            NotUnderstoodError: when it is computed, of another type, quantized, or stored sparse.
        """
        value = self.constant(slot)
        expect(value is not None and value.dtype == np.float32)
        tensor = self.model.subgraphs[0].tensors[self.inputs[slot]]
        expect(tensor.sparsity is None and not fb.scales(tensor).size)
        return np.asarray(value)

    def maker(self, tensor: int) -> "Node | None":
        """The operator that computes the tensor, if one does."""
        for i, op in enumerate(self.model.subgraphs[0].operators):
            if any(int(t) == tensor for t in op.outputs):
                return Node(self.model, i)
        return None

    def readers(self, tensor: int) -> list["Node"]:
        """Operators that read the tensor, once for each time they do."""
        operators = self.model.subgraphs[0].operators
        return [Node(self.model, i) for i, op in enumerate(operators) for t in op.inputs if int(t) == tensor]


def reduced_axes(node: Node) -> tuple[int, ...]:
    """Axes over which a reduction runs, counted from the front.

    Raises:
        NotUnderstoodError: when they are computed.
    """
    rank = len(node.shape(node.inputs[0]))
    return tuple(sorted({axis % rank for axis in node.integers(1)})) if rank else ()


def has_border(node: Node, kernel: tuple[int, int]) -> bool:
    """Whether a convolution reads zeros beside its image; `kernel` is its height and width.

    Padding SAME means the least number of zeros that gives ceil(size / stride) outputs, which can be none.
    """
    o = node.options
    if o.padding == VALID:
        return False
    before, after = node.shape(node.inputs[0]), node.shape(node.outputs[0])
    if len(before) != 4 or len(after) != 4:
        return True
    strides, dilation = (o.strideH, o.strideW), (o.dilationHFactor, o.dilationWFactor)
    return any(
        (after[i + 1] - 1) * strides[i] + (kernel[i] - 1) * dilation[i] + 1 > before[i + 1] for i in (0, 1)
    )
