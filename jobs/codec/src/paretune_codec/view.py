"""What the walked flatbuffer says of its tensors: types, shapes, scales, and which operators use them."""

from dataclasses import dataclass, field

from paretune_codec.errors import CorruptPtz

CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV = 3, 4, 9, 67
WITH_BIAS = (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED)
"""Operators whose input 1 is a kernel and whose input 2 a bias."""


@dataclass(slots=True)
class Tensor:
    """A tensor; places are bytes of the file, 0 of a vector that is absent."""

    type: int
    shape: tuple[int, ...]
    buffer: int
    scale: int
    scales: int
    zero_point: int
    zero_points: int


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator by its builtin code, with the numbers of its tensors; those that do not exist are left
    out.
    """

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(slots=True)
class Graph:
    """One subgraph."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)


def graphs(data: bytearray) -> list[Graph]:
    """The subgraphs of the file, whose references must be in place.

    Raises:
        CorruptPtz: when a reference leads out of the file.
    """
    view = _View(data)
    root = view.number(0, 4)
    codes = []
    for place in view.tables(root, 1):
        deprecated, code = view.scalar(place, 0, 1), view.scalar(place, 3, 4)
        codes.append(max(deprecated, code))
    return [view.graph(place, codes) for place in view.tables(root, 2)]


class _View:
    def __init__(self, data: bytearray) -> None:
        self._data = data

    def number(self, place: int, size: int, signed: bool = False) -> int:
        if place < 0 or place + size > len(self._data):
            raise CorruptPtz("a reference leads out of the file")
        return int.from_bytes(self._data[place : place + size], "little", signed=signed)

    def _place(self, table: int, slot: int) -> int:
        """Where the field stands; 0 when it is absent."""
        vtable = table - self.number(table, 4, signed=True)
        if 4 + 2 * slot >= self.number(vtable, 2):
            return 0
        offset = self.number(vtable + 4 + 2 * slot, 2)
        return table + offset if offset else 0

    def scalar(self, table: int, slot: int, size: int) -> int:
        place = self._place(table, slot)
        return self.number(place, size) if place else 0

    def _follow(self, table: int, slot: int) -> int:
        place = self._place(table, slot)
        return place + self.number(place, 4) if place else 0

    def _vector(self, table: int, slot: int) -> tuple[int, int]:
        """Place of the first element and their number; (0, 0) when absent."""
        place = self._follow(table, slot)
        return (place + 4, self.number(place, 4)) if place else (0, 0)

    def tables(self, table: int, slot: int) -> list[int]:
        first, count = self._vector(table, slot)
        places = range(first, first + 4 * count, 4)
        return [place + self.number(place, 4) for place in places]

    def _integers(self, table: int, slot: int) -> tuple[int, ...]:
        first, count = self._vector(table, slot)
        return tuple(self.number(place, 4, signed=True) for place in range(first, first + 4 * count, 4))

    def graph(self, place: int, codes: list[int]) -> Graph:
        found = Graph()
        for tensor in self.tables(place, 0):
            quantization = self._follow(tensor, 4)
            scale, zero_point = (0, 0), (0, 0)
            if quantization:
                scale, zero_point = self._vector(quantization, 2), self._vector(quantization, 3)
            shape = self._integers(tensor, 0)
            kind, buffer = self.scalar(tensor, 1, 1), self.scalar(tensor, 2, 4)
            found.tensors.append(Tensor(kind, shape, buffer, *scale, *zero_point))
        count = len(found.tensors)
        for operator in self.tables(place, 3):
            index = self.scalar(operator, 0, 4)
            code = codes[index] if index < len(codes) else 0
            inputs = tuple(i if 0 <= i < count else -1 for i in self._integers(operator, 1))
            outputs = tuple(i if 0 <= i < count else -1 for i in self._integers(operator, 2))
            found.operators.append(Operator(code, inputs, outputs))
        return found
