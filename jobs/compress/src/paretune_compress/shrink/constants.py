"""Which channels hold the same number everywhere and whatever the input: one pass through the graph.

A convolution's output channel without weights is the activation of its bias; what only reads such channels is
such a channel itself. Everything that cannot be told is taken to vary.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import flatbuffer as fb
from .node import Node, has_border, reduced_axes
from .structure import Flags, Reader, Structure

Numbers = NDArray[np.float64]
"""A number for each position of a tensor's last axis; NaN where it varies."""
Known = Mapping[int, Numbers]
"""By tensor."""


@dataclass(frozen=True)
class Weights:
    """A kernel as a matrix [rows, columns].

    present: whether any of the weights between two channels is not zero.
    sums: what a constant column is multiplied with.
    """

    present: Flags
    sums: Numbers


def weights_of(model: fb.Model, reader: Reader) -> Weights:
    kernel = np.asarray(fb.constant(model, reader.kernel))
    middle = tuple(range(1, kernel.ndim - 1))
    return Weights(np.any(kernel != 0, axis=middle), np.sum(kernel, axis=middle, dtype=np.float64))


def column_values(reader: Reader, known: Known) -> Numbers:
    """What each column of the kernel reads, where its part can be added to the bias, else NaN.

    Beside the image there are zeros, so there only a channel of zeros is constant.
    """
    values = known[reader.source]
    columns = np.tile(values, len(reader.columns) // max(1, len(values)))
    return np.where(columns == 0, 0.0, np.nan) if reader.border else columns


def constant_channels(structure: Structure) -> Known:
    """For each activation the value of each position of its last axis; NaN where it is no constant."""
    readers = {reader.operator: reader for reader in structure.readers}
    known = {t: np.full(len(ids), np.nan) for t, ids in structure.activations.items()}
    for index in sorted(structure.understood):
        node = Node(structure.model, index)
        with np.errstate(all="ignore"):
            if index in readers:
                values = _weighted_sums(structure.model, readers[index], known)
            elif node.name in _VALUES:
                values = _VALUES[node.name](node, known)
            else:
                continue
            values = activate(node.option("fusedActivationFunction", 0), values)
        known[node.outputs[0]] = np.where(np.isfinite(values), values, np.nan)
    return known


def activate(code: int, x: Numbers) -> Numbers:
    """The schema's fused activation number `code`; NaN for one that is not known."""
    result: Numbers = _FUSED[code](x) if code in _FUSED else np.full(x.shape, np.nan)
    return result


# --- functions of one number --------------------------------------------------------------------------------

Function = Callable[[Numbers], Any]


def _gelu(x: Numbers, approximate: bool) -> Numbers:
    if approximate:
        inner: Numbers = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
        return 0.5 * x * (1 + inner)
    return np.array([0.5 * v * (1 + erf(v / 2**0.5)) for v in x.tolist()])


_FUSED: dict[int, Function] = {
    0: lambda x: x,
    1: lambda x: np.maximum(x, 0.0),
    2: lambda x: np.clip(x, -1.0, 1.0),
    3: lambda x: np.clip(x, 0.0, 6.0),
    4: np.tanh,
}
_UNARY: dict[str, Callable[[Numbers, Node], Numbers]] = {
    "RELU": lambda x, _: np.maximum(x, 0.0),
    "RELU_N1_TO_1": lambda x, _: np.clip(x, -1.0, 1.0),
    "RELU6": lambda x, _: np.clip(x, 0.0, 6.0),
    "RELU_0_TO_1": lambda x, _: np.clip(x, 0.0, 1.0),
    "TANH": lambda x, _: np.tanh(x),
    "LOGISTIC": lambda x, _: 1 / (1 + np.exp(-x)),
    "LEAKY_RELU": lambda x, node: np.where(x < 0, node.option("alpha", 0.0) * x, x),
    "ELU": lambda x, _: np.where(x < 0, np.expm1(x), x),
    "GELU": lambda x, node: _gelu(x, bool(node.option("approximate", False))),
    "HARD_SWISH": lambda x, _: x * np.clip(x + 3, 0.0, 6.0) / 6,
    "ABS": lambda x, _: np.abs(x),
    "NEG": lambda x, _: -x,
    "EXP": lambda x, _: np.exp(x),
    "LOG": lambda x, _: np.log(x),
    "SQRT": lambda x, _: np.sqrt(x),
    "RSQRT": lambda x, _: 1 / np.sqrt(x),
    "SQUARE": lambda x, _: x * x,
    "SIN": lambda x, _: np.sin(x),
    "COS": lambda x, _: np.cos(x),
    # Windows over equal numbers: an average leaves out what lies beside the image.
    "MAX_POOL_2D": lambda x, _: x,
    "AVERAGE_POOL_2D": lambda x, _: x,
    "RESIZE_BILINEAR": lambda x, _: x,
    "RESIZE_NEAREST_NEIGHBOR": lambda x, _: x,
    "MIRROR_PAD": lambda x, _: x,
    "TILE": lambda x, _: x,
    "MEAN": lambda x, _: x,
    "REDUCE_MAX": lambda x, _: x,
    "REDUCE_MIN": lambda x, _: x,
    "SUM": lambda x, node: x * prod(node.shape(node.inputs[0])[i] for i in reduced_axes(node)),
}
_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2,
    "PRELU": lambda a, b: np.where(a < 0, a * b, a),
}


# --- operators ----------------------------------------------------------------------------------------------


def _weighted_sums(model: fb.Model, reader: Reader, known: Known) -> Numbers:
    weights, columns = weights_of(model, reader), column_values(reader, known)
    varies = np.isnan(columns)
    sums = weights.sums @ np.where(varies, 0.0, columns) + _bias(model, reader.bias, len(reader.rows))
    return np.where(np.any(weights.present[:, varies], axis=1), np.nan, sums)


def _bias(model: fb.Model, tensor: int, size: int) -> Numbers:
    value = fb.constant(model, tensor)
    return np.zeros(size) if value is None else value.astype(np.float64)


def _depthwise(node: Node, known: Known) -> Numbers:
    kernel = node.floats(1)
    x = known[node.inputs[0]]
    x = np.repeat(x, kernel.shape[3] // len(x))
    if has_border(node, kernel.shape[1:3]):
        x = np.where(x == 0, 0.0, np.nan)
    weighted = np.sum(kernel, axis=(0, 1, 2), dtype=np.float64) * x
    none = ~np.any(kernel != 0, axis=(0, 1, 2))
    return np.where(none, 0.0, weighted) + _bias(node.model, _bias_tensor(node), kernel.shape[3])


def _bias_tensor(node: Node) -> int:
    return node.inputs[2] if node.has(2) else -1


def _unary(node: Node, known: Known) -> Numbers:
    return _UNARY[node.name](known[node.inputs[0]], node)


def _binary(node: Node, known: Known) -> Numbers:
    """Element by element; what differs between places varies, and zero times anything is zero."""
    size = len(known[node.outputs[0]])
    a, b = (_spread(node, slot, known, size) for slot in (0, 1))
    result = _equal_rows(np.asarray(_BINARY[node.name](a, b), np.float64))
    if node.name == "MUL":
        result = np.where(np.all(a == 0, axis=0) | np.all(b == 0, axis=0), 0.0, result)
    return result


def _spread(node: Node, slot: int, known: Known, size: int) -> Numbers:
    """An operand as [places, channels]."""
    constant = node.constant(slot)
    value = known[node.inputs[slot]] if constant is None else constant.astype(np.float64)
    wide: Numbers = np.broadcast_to(value, (*value.shape[:-1], size))
    return wide.reshape(-1, size)


def _equal_rows(rows: Numbers) -> Numbers:
    return np.where(np.all(rows == rows[:1], axis=0), rows[0], np.nan)


def _pad(node: Node, known: Known) -> Numbers:
    x = known[node.inputs[0]]
    if not any(node.integers(1)):
        return x
    beside = 0.0
    if node.has(2):
        value = node.constant(2)
        beside = float(value.reshape(-1)[0]) if value is not None else np.nan
    return np.where(x == beside, x, np.nan)


def _concatenate(node: Node, known: Known) -> Numbers:
    parts = [known[tensor] for tensor in node.inputs]
    rank = len(node.shape(node.outputs[0]))
    return np.concatenate(parts) if node.options.axis % rank == rank - 1 else _equal_rows(np.stack(parts))


def _refold(node: Node, known: Known) -> Numbers:
    x, size = known[node.inputs[0]], len(known[node.outputs[0]])
    return np.tile(x, size // len(x)) if size % len(x) == 0 else _equal_rows(x.reshape(-1, size))


_VALUES: dict[str, Callable[[Node, Known], Numbers]] = {
    "DEPTHWISE_CONV_2D": _depthwise,
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BINARY, _binary),
    "PAD": _pad,
    "PADV2": _pad,
    "CONCATENATION": _concatenate,
    "RESHAPE": _refold,
    "SQUEEZE": _refold,
    "EXPAND_DIMS": _refold,
}
