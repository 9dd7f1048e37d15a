"""Scales and zero points, operator by operator: a bias's are derived, an output's are often its input's."""

import numpy as np

from paretune_codec.errors import CorruptPtz
from paretune_codec.numbers import Numbers
from paretune_codec.view import WITH_BIAS, Graph, Operator, Tensor

_DERIVED, _ZEROS = 10, 11
_KEY_SCALE, _KEY_ZERO = 16, 24
"""Keys of numbers: below those of fields. Eight for scales, eight for zero points."""


class Scales:
    """Codes the scales and zero points of all tensors of the file `data`."""

    def __init__(self, numbers: Numbers, data: bytearray) -> None:
        self._numbers = numbers
        self._data = data
        self._done: set[int] = set()

    def run(self, graphs: list[Graph]) -> None:
        """First those that operators use, in their order; then the rest."""
        for graph in graphs:
            for operator in graph.operators:
                for position, index in enumerate(operator.inputs):
                    if index >= 0:
                        self._tensor(graph, index, operator, min(position, 3))
                for index in operator.outputs:
                    if index >= 0:
                        self._tensor(graph, index, operator, 4)
            for index in range(len(graph.tensors)):
                self._tensor(graph, index, None, 5)

    def _tensor(self, graph: Graph, index: int, operator: Operator | None, role: int) -> None:
        """`role` is the position among the inputs, at most 3; 4 of outputs, 5 of what no operator uses."""
        tensor = graph.tensors[index]
        first = None
        if (
            operator is not None
            and operator.inputs
            and operator.inputs[0] >= 0
            and operator.inputs[0] != index
        ):
            first = graph.tensors[operator.inputs[0]]
        code = operator.code if operator is not None else 0
        if tensor.scales and tensor.scale not in self._done:
            self._done.add(tensor.scale)
            self._scale(tensor, first, graph, operator, code, role)
        if tensor.zero_points and tensor.zero_point not in self._done:
            self._done.add(tensor.zero_point)
            self._zero_point(tensor, first, code, role)

    def _scale(
        self,
        tensor: Tensor,
        first: Tensor | None,
        graph: Graph,
        operator: Operator | None,
        code: int,
        role: int,
    ) -> None:
        numbers = self._numbers
        place, count = tensor.scale, tensor.scales
        values = self._floats(place, count)
        expected = None
        if operator is not None and first is not None and self._known(first):
            if role == 2 and code in WITH_BIAS:
                kernel = graph.tensors[operator.inputs[1]] if operator.inputs[1] >= 0 else None
                if (
                    kernel is not None
                    and kernel.scales == count
                    and kernel.scale in self._done
                    and kernel is not tensor
                ):
                    expected = _products(self._floats(first.scale, 1), self._floats(kernel.scale, count))
            elif role == 4 and first.scales == count:
                expected = self._floats(first.scale, count)
        if expected is not None:
            same = bool(np.array_equal(values, expected))
            if numbers.flag(_DERIVED, code * 8 + role, 0, int(same)):
                self._write(place, expected.tobytes())
                return
        if not numbers.decoding:
            for value in values.tolist():
                numbers.float_bits(_KEY_SCALE + (role in (1, 2)) * 2, value)
            return
        made = [numbers.float_bits(_KEY_SCALE + (role in (1, 2)) * 2, 0) for _ in range(count)]
        self._write(place, np.array(made, "<u4").tobytes())

    def _zero_point(self, tensor: Tensor, first: Tensor | None, code: int, role: int) -> None:
        numbers = self._numbers
        place, count = tensor.zero_point, tensor.zero_points
        values = self._integers(place, count)
        expected = [0] * count
        if role == 4 and first is not None and first.zero_points and first.zero_point in self._done:
            expected = self._integers(first.zero_point, 1) * count
        if numbers.flag(_ZEROS, code * 8 + role, 0, int(values == expected)):
            made = expected
        else:
            made = [numbers.step(_KEY_ZERO, value) for value in values]
        if numbers.decoding:
            self._write(place, np.array(made, "<i8").tobytes())

    def _known(self, tensor: Tensor) -> bool:
        return tensor.scales > 0 and tensor.scale in self._done

    def _floats(self, place: int, count: int) -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
        self._inside(place, 4 * count)
        return np.frombuffer(bytes(self._data[place : place + 4 * count]), "<u4")

    def _integers(self, place: int, count: int) -> list[int]:
        self._inside(place, 8 * count)
        values: list[int] = np.frombuffer(bytes(self._data[place : place + 8 * count]), "<i8").tolist()
        return values

    def _inside(self, place: int, length: int) -> None:
        if place + length > len(self._data):
            raise CorruptPtz("a vector ends behind the file")

    def _write(self, place: int, content: bytes) -> None:
        if self._numbers.decoding:
            self._data[place : place + len(content)] = content


def _products(
    one: "np.ndarray[tuple[int], np.dtype[np.uint32]]", many: "np.ndarray[tuple[int], np.dtype[np.uint32]]"
) -> "np.ndarray[tuple[int], np.dtype[np.uint32]] | None":
    """Bits of the float32 products; None when one of them is no finite number."""
    with np.errstate(all="ignore"):
        product = (one.view(np.float32)[0] * many.view(np.float32)).astype(np.float32)
    return product.view(np.uint32) if bool(np.isfinite(product).all()) else None
