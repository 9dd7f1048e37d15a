"""Sparse tensors as a .tflite stores them: row after row the values that are not zero, and where they stand.

The format is that of `SparsityParameters` in TensorFlow's schema, in the two forms that its converter writes
and LiteRT's kernels read: all axes are dense but the last one, which is compressed (CSR), either weight by
weight or in blocks of four neighbors (1x4). Encodings here are those of the converter's own pass
(tensorflow.lite.python.convert.mlir_sparsify), to the byte.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK = 4
MOST_BYTES = 2**31 - 1
"""No .tflite holds more, so no dense tensor that was ever in one does."""
_INDEXES = (
    (np.uint8, schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    (np.uint16, schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    (np.int32, schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
)
"""Types of positions, the narrowest first."""


@dataclass(frozen=True)
class Encoded:
    """A tensor without its zeros.

    values: all that is kept, in the order of the dense tensor.
    segments: for each row (all axes but the last) where its entries begin, and at last where the last ends.
    places: of the entries along the last axis, counted in blocks.
    block: 1, or 4 where an entry is four values.
    """

    shape: tuple[int, ...]
    values: Array
    segments: Array
    places: Array
    block: int

    def parameters(self) -> Any:
        """`SparsityParametersT`."""
        *outer, last = self.shape
        found = schema.SparsityParametersT()
        found.dimMetadata = [_dense_axis(size) for size in outer]
        found.dimMetadata.append(_compressed_axis(self.segments, self.places))
        found.blockMap = np.zeros(0, np.int32)
        if self.block > 1:
            found.dimMetadata.append(_dense_axis(self.block))
            found.blockMap = np.array([len(outer)], np.int32)
        found.traversalOrder = np.arange(len(found.dimMetadata), dtype=np.int32)
        assert last % self.block == 0
        return found


def encode(values: Array, block: int = 1) -> Encoded:
    """The tensor without the entries that are all zero.

    Args:
        values: of any type; its last axis must be a multiple of `block`.
        block: values of one entry, neighbors along the last axis.
    """
    rows = values.reshape(-1, values.shape[-1] // block, block)
    kept = (rows != 0).any(axis=2)
    segments = np.concatenate([[0], np.cumsum(np.count_nonzero(kept, axis=1))])
    places = np.nonzero(kept)[1]
    return Encoded(values.shape, rows[kept].reshape(-1), _narrow(segments), _narrow(places), block)


def decode(raw: Array, dtype: Any, shape: tuple[int, ...], parameters: Any) -> Array:
    """The dense tensor, zeros and all.

    Args:
        raw: bytes of the tensor's buffer (uint8).
        dtype: of one value.
        shape: of the dense tensor.
        parameters: `SparsityParametersT` of the tensor.

    Raises:
        ValueError: when the encoding is none of the two forms, its parts contradict each other, or the shape
            is not that of what is encoded.
    """
    axes = list(parameters.dimMetadata or [])
    formats = [axis.format for axis in axes]
    dense, compressed = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR
    order = [] if parameters.traversalOrder is None else [int(i) for i in parameters.traversalOrder]
    blocks = [] if parameters.blockMap is None else [int(i) for i in parameters.blockMap]
    rank = len(shape)
    rows = rank > 0 and formats[:rank] == [dense] * (rank - 1) + [compressed]
    whole = not blocks and len(axes) == rank
    in_blocks = blocks == [rank - 1] and len(axes) == rank + 1 and formats[rank:] == [dense]
    if not rows or order != list(range(len(axes))) or not (whole or in_blocks):
        raise ValueError("its sparse encoding is none of rows or rows of blocks along the last axis")
    block = 1 if whole else int(axes[rank].denseSize)
    outer = [int(axis.denseSize) for axis in axes[: rank - 1]]
    if min(shape) < 0 or outer != list(shape[:-1]) or block < 1 or shape[-1] % block:
        raise ValueError(f"its shape {list(shape)} is not that of its sparse encoding")
    if prod(shape) * np.dtype(dtype).itemsize > MOST_BYTES:
        raise ValueError(f"its shape {list(shape)} is that of more bytes than a .tflite holds")
    segments, places = (_positions(v) for v in (axes[rank - 1].arraySegments, axes[rank - 1].arrayIndices))
    values = np.ascontiguousarray(raw).view(dtype).reshape(-1)
    count, across = prod(outer), shape[-1] // block
    lengths = np.diff(segments)
    if (
        len(segments) != count + 1
        or segments[0] != 0
        or (lengths < 0).any()
        or segments[-1] != len(places)
        or len(values) != len(places) * block
        or (places < 0).any()
        or (places >= across).any()
    ):
        raise ValueError("the parts of its sparse encoding contradict each other")
    found = np.zeros((count, across, block), dtype)
    found[np.repeat(np.arange(count), lengths), places] = values.reshape(-1, block)
    return found.reshape(shape)


def _narrow(numbers: Array) -> Array:
    """In the narrowest type that holds them."""
    highest = int(numbers.max(initial=0))
    return numbers.astype(next(kind for kind, _, _ in _INDEXES if highest <= np.iinfo(kind).max))


def _dense_axis(size: int) -> Any:
    axis = schema.DimensionMetadataT()
    axis.format, axis.denseSize = schema.DimensionType.DENSE, size
    return axis


def _compressed_axis(segments: Array, places: Array) -> Any:
    axis = schema.DimensionMetadataT()
    axis.format = schema.DimensionType.SPARSE_CSR
    axis.arraySegmentsType, axis.arraySegments = _vector(segments)
    axis.arrayIndicesType, axis.arrayIndices = _vector(places)
    return axis


def _vector(numbers: Array) -> tuple[int, Any]:
    code, vector = next((code, make()) for kind, code, make in _INDEXES if numbers.dtype == kind)
    vector.values = numbers
    return code, vector


def _positions(vector: Any) -> Array:
    values = None if vector is None else vector.values
    return np.zeros(0, np.int64) if values is None else np.asarray(values, np.int64)
