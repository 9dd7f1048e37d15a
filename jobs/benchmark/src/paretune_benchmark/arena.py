"""Tensor arena of a .tflite: the peak of what must be in memory at once, read from the graph.

A tensor is live from the operator that writes it (an input of the graph: from the start) to the last one
that reads it (an output: to the end). The arena is the largest sum of live tensors over all operators, each
rounded up to 16 bytes as TensorFlow Lite for Microcontrollers does. Constants lie in the file and are not
counted; variables (state between inferences) are live throughout. Temporary buffers that some kernels ask
for, and the gaps that a planner leaves, are not in the graph and not counted.
"""

import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from paretune_contract.failure import Reason, StageError

ALIGNMENT = 16


@dataclass(frozen=True)
class LiveTensor:
    """Bytes that are needed from operator `first` to operator `last`, both inclusive."""

    size: int
    first: int
    last: int


def peak(tensors: Iterable[LiveTensor], operators: int, callee_peaks: dict[int, int] | None = None) -> int:
    """Largest sum of live bytes over operators 0..operators-1.

    Args:
        tensors: all tensors of one graph.
        operators: number of operators; a graph without any holds its inputs and outputs at once.
        callee_peaks: bytes that an operator's own subgraphs need while it runs.
    """
    steps = max(1, operators)
    change = [0] * (steps + 1)
    for tensor in tensors:
        change[tensor.first] += tensor.size
        change[tensor.last + 1] -= tensor.size
    live = largest = 0
    for step in range(steps):
        live += change[step]
        largest = max(largest, live + (callee_peaks or {}).get(step, 0))
    return largest


def arena_bytes(content: bytes, name: str = "the model") -> int:
    """Bytes of the tensor arena of the first subgraph at batch 1.

    Args:
        content: bytes of a .tflite.
        name: how messages call the file.

    Raises:
        StageError: NotRunnable when the bytes are no .tflite.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        if not schema.Model.ModelBufferHasIdentifier(content, 0):
            raise ValueError("bytes 4 to 7 are not TFL3")
        return _subgraph_peak(schema.Model.GetRootAs(content, 0), 0, frozenset())
    except Exception as error:  # offsets of a damaged file lead anywhere
        raise StageError(Reason.NOT_RUNNABLE, f"{name} is no readable .tflite: {error}") from error


def _subgraph_peak(model: Any, index: int, callers: frozenset[int]) -> int:
    graph = model.Subgraphs(index)
    operators = graph.OperatorsLength()
    end = max(operators - 1, 0)
    first, last = dict.fromkeys(_indices(graph.InputsAsNumpy()), 0), {}
    callees: dict[int, int] = {}
    for step in range(operators):
        operator = graph.Operators(step)
        for tensor in _indices(operator.InputsAsNumpy()):
            last[tensor] = step
        for tensor in _indices(operator.OutputsAsNumpy()):
            first.setdefault(tensor, step)
            last[tensor] = step
        called = set(_called_subgraphs(operator)) - callers - {index}
        callees[step] = max((_subgraph_peak(model, c, callers | {index}) for c in called), default=0)
    last.update(dict.fromkeys(_indices(graph.OutputsAsNumpy()), end))
    live = []
    for number in range(graph.TensorsLength()):
        tensor = graph.Tensors(number)
        if tensor.IsVariable():
            live.append(LiveTensor(_bytes_of(tensor), 0, end))
        elif number in first and not _is_constant(model, tensor):
            live.append(LiveTensor(_bytes_of(tensor), first[number], last.get(number, first[number])))
    return peak(live, operators, callees)


def _indices(values: Any) -> list[int]:
    return [] if isinstance(values, int) else [int(v) for v in values if v >= 0]  # absent vectors read as 0


def _is_constant(model: Any, tensor: Any) -> bool:
    buffer = model.Buffers(tensor.Buffer())
    return bool(buffer.DataLength() > 0 or buffer.Size() > 0)  # Size: data behind the flatbuffer


def _bytes_of(tensor: Any) -> int:
    shape = [] if tensor.ShapeIsNone() else [int(n) for n in tensor.ShapeAsNumpy()]
    elements = math.prod(max(n, 1) for n in shape)  # an unknown axis counts as 1
    size = math.ceil(elements * _bits()[tensor.Type()] / 8)
    return -(-size // ALIGNMENT) * ALIGNMENT


@functools.cache
def _bits() -> dict[int, int]:
    """Bits of one element by TensorType; resources and strings have no size that the graph tells."""
    from ai_edge_litert.schema_py_generated import TensorType

    words = {"COMPLEX64": 64, "COMPLEX128": 128, "BOOL": 8, "STRING": 0, "RESOURCE": 0, "VARIANT": 0}
    types = {name: value for name, value in vars(TensorType).items() if isinstance(value, int)}
    digits = {name: re.search(r"[0-9]+", name) for name in types}
    return {
        value: words[name] if name in words else int(match[0]) if (match := digits[name]) else 0
        for name, value in types.items()
    }


def _called_subgraphs(operator: Any) -> list[int]:
    """Subgraphs that WHILE, IF and CALL_ONCE run."""
    from ai_edge_litert import schema_py_generated as schema

    options = schema.BuiltinOptions
    fields = {
        options.WhileOptions: (schema.WhileOptions, ("CondSubgraphIndex", "BodySubgraphIndex")),
        options.IfOptions: (schema.IfOptions, ("ThenSubgraphIndex", "ElseSubgraphIndex")),
        options.CallOnceOptions: (schema.CallOnceOptions, ("InitSubgraphIndex",)),
    }
    kind = operator.BuiltinOptionsType()
    if kind not in fields:
        return []
    table, names = fields[kind]
    read = table()
    read.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
    return [int(getattr(read, name)()) for name in names]
