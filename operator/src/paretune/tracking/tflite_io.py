"""The inputs and outputs of a .tflite file, read from the file itself.

A few fields of the flatbuffer (github.com/tensorflow/tensorflow, lite/schema/schema.fbs) are all that a
signature needs, and neither TensorFlow nor LiteRT is installed where tracking runs.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "str", 6: "bool", 7: "int16",
    8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64", 15: "uint32", 16: "uint16",
}  # fmt: skip
# Field numbers of the tables Model, SubGraph, Tensor and QuantizationParameters.
_MODEL_SUBGRAPHS = 2
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_QUANTIZATION, _TENSOR_SHAPE_SIGNATURE = 0, 1, 3, 4, 7
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT = 2, 3


class NotTfLiteError(Exception):
    """The file is no .tflite, or a damaged one; the message names it."""


@dataclass(frozen=True)
class Port:
    """An input or output: real = (stored - zero_point) * scale where it is quantized."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None


def read_ports(path: Path) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of the main graph. -1 in a shape is an axis of any length.

    Raises:
        NotTfLiteError: when the file cannot be read as one.
    """
    data = path.read_bytes()
    try:
        if data[4:8] != b"TFL3":
            raise NotTfLiteError(f"{path}: bytes 4 to 8 are {data[4:8]!r}, a .tflite file has b'TFL3' there")
        buffer = _Buffer(data)
        graph = buffer.tables(buffer.root(), _MODEL_SUBGRAPHS)[0]
        tensors = buffer.tables(graph, _GRAPH_TENSORS)
        sides = [buffer.numbers(graph, field, "i") for field in (_GRAPH_INPUTS, _GRAPH_OUTPUTS)]
        inputs, outputs = (tuple(_port(buffer, tensors[i]) for i in side) for side in sides)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise NotTfLiteError(f"{path}: damaged .tflite file ({error})") from error
    return inputs, outputs


def _port(buffer: "_Buffer", tensor: int) -> Port:
    shape = buffer.numbers(tensor, _TENSOR_SHAPE_SIGNATURE, "i") or buffer.numbers(tensor, _TENSOR_SHAPE, "i")
    kind = buffer.byte(tensor, _TENSOR_TYPE)
    quantization = buffer.table(tensor, _TENSOR_QUANTIZATION)
    scales = buffer.numbers(quantization, _QUANTIZATION_SCALE, "f") if quantization else ()
    zeros = buffer.numbers(quantization, _QUANTIZATION_ZERO_POINT, "q") if quantization else ()
    return Port(
        name=buffer.text(tensor, _TENSOR_NAME),
        dtype=_TYPES.get(kind, f"type{kind}"),
        shape=tuple(int(n) for n in shape),
        scale=float(scales[0]) if scales else None,
        zero_point=int(zeros[0]) if zeros else (0 if scales else None),
    )


class _Buffer:
    """Reads flatbuffer tables (flatbuffers.dev/internals): offsets are relative to where they stand."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def _read(self, form: str, at: int) -> int:
        if at < 0:
            raise IndexError(f"offset {at}")
        value: int = struct.unpack_from(f"<{form}", self._data, at)[0]
        return value

    def root(self) -> int:
        return self._read("I", 0)

    def _field(self, table: int, number: int) -> int:
        """Position of a field's value; 0 where the field is left out."""
        vtable = table - self._read("i", table)
        at = 4 + 2 * number
        offset = self._read("H", vtable + at) if at < self._read("H", vtable) else 0
        return table + offset if offset else 0

    def byte(self, table: int, number: int) -> int:
        at = self._field(table, number)
        return self._read("b", at) if at else 0

    def table(self, table: int, number: int) -> int:
        at = self._field(table, number)
        return at + self._read("I", at) if at else 0

    def _vector(self, table: int, number: int) -> tuple[int, int]:
        """Position of the first element, and how many there are."""
        at = self.table(table, number)
        return (at + 4, self._read("I", at)) if at else (0, 0)

    def tables(self, table: int, number: int) -> list[int]:
        start, length = self._vector(table, number)
        if start + 4 * length > len(self._data):
            raise IndexError(f"vector of {length} tables")
        return [at + self._read("I", at) for at in range(start, start + 4 * length, 4)]

    def numbers(self, table: int, number: int, form: str) -> tuple[Any, ...]:
        start, length = self._vector(table, number)
        if length > len(self._data):
            raise IndexError(f"vector of {length} numbers")
        return struct.unpack_from(f"<{length}{form}", self._data, start) if length else ()

    def text(self, table: int, number: int) -> str:
        start, length = self._vector(table, number)
        return self._data[start : start + length].decode()
