"""The constants: for each the coder that makes it smallest, within the decisions that may be spent."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paretune_codec import static
from paretune_codec.errors import CorruptPtz
from paretune_codec.matrix import WIDE, Matrix, Shape, stride_of
from paretune_codec.numbers import Numbers
from paretune_codec.structure import ELEMENT_BYTES, Constant, Found
from paretune_codec.view import DEPTHWISE_CONV_2D, Graph, Tensor

STORED, ZSTD, PLANES, INTEGERS, FLOATS, MATRIX, LEVELS, TEXT, RANKS = range(9)
"""How a constant is coded."""
UINT8, INT8, INT4, FLOAT32 = 3, 9, 17, 0
INTEGER_TYPES = {2: "<i4", 4: "<i8", 7: "<i2", 9: "<i1", 12: "<u8", 15: "<u4", 16: "<u2", 3: "<u1"}
_BITS = {kind: 8 * int(name[2]) for kind, name in INTEGER_TYPES.items()}
MOST_LEVELS = 256
MOST_NUMBERS = 1024
LONGEST_TEXT = 1024
"""Longest constants, in elements, that are coded number by number and as text."""
_KEY_MODE, _KEY_SIZE, _KEY_UP, _KEY_LEVELS, _KEY_LEVEL, _KEY_SHIFT, _KEY_VALUE, _KEY_FLOAT = (
    40,
    41,
    42,
    43,
    44,
    45,
    46,
    50,
)
Integers = NDArray[np.int64]


@dataclass(slots=True)
class Job:
    """One constant and what is known of it: its tensor, and the operator that uses it first (-1 and 9:
    none).
    """

    constant: Constant
    tensor: Tensor | None
    code: int = -1
    role: int = 9
    alive: Sequence[int] = ()
    zero_point: int = 0

    @property
    def type(self) -> int:
        return self.tensor.type if self.tensor else -1

    @property
    def size(self) -> int:
        """Bytes of an element; 1 when the length is no multiple of them."""
        size = ELEMENT_BYTES.get(self.type, 1)
        return size if self.constant.length % size == 0 else 1

    @property
    def count(self) -> int:
        """Elements; of 4-bit ones as many as fit."""
        return self.constant.length * 2 if self.type == INT4 else self.constant.length // self.size

    @property
    def is_depthwise(self) -> bool:
        """Whether the last dimension is what others have first."""
        shape = self._dimensions
        return self.code == DEPTHWISE_CONV_2D and self.role == 1 and len(shape) == 4 and shape[0] == 1

    @property
    def _dimensions(self) -> tuple[int, ...]:
        """The shape, when it is that of the constant; else one row of all its elements."""
        shape = self.tensor.shape if self.tensor else ()
        product = 1
        for d in shape:
            product *= max(d, 0)
        return shape if product == self.count and shape else (1, self.count)

    def matrix(self) -> tuple[int, int, int]:
        """Rows, columns, and the last dimension."""
        shape = self._dimensions
        last = shape[-1]
        if self.is_depthwise:
            return last, self.count // last, 1
        rows = shape[0] if len(shape) > 1 else 1
        return rows, self.count // rows, last


@dataclass(slots=True)
class Plan:
    """What a constant may be coded as when encoding."""

    modes: list[int]
    """What to try, the slowest last."""
    planes: list[static.Plane] = field(default_factory=list)
    frame: bytes = b""
    values: Integers | None = None
    levels: Integers | None = None
    ranks: bytes = b""
    decisions: dict[int, int] = field(default_factory=dict)
    """About how many decisions the adaptive ones take."""


class Constants:
    """Codes all constants of the file `data`.

    When encoding, `budget` is how many decisions may go into matrices, and `level` zstd's, 0 when it may not
    be used.
    """

    def __init__(
        self, numbers: Numbers, side: static.Side, data: bytearray, budget: int = 0, level: int = 0
    ) -> None:
        self._numbers = numbers
        self._side = side
        self._data = data
        self._budget = budget
        self._level = level

    def run(self, graphs: list[Graph], found: Found) -> None:
        """First those that operators use, in their order; then the rest, by buffer."""
        by_buffer = {c.buffer: c for c in found.constants}
        plans = self._plans(graphs, by_buffer) if not self._numbers.decoding else {}
        done: set[int] = set()
        for graph in graphs:
            classes: dict[int, list[int]] = {}
            for operator in graph.operators:
                first = operator.inputs[0] if operator.inputs else -1
                own = classes.get(first)
                for role, index in enumerate(operator.inputs):
                    if index < 0:
                        continue
                    tensor = graph.tensors[index]
                    constant = by_buffer.get(tensor.buffer)
                    if constant is None or constant.buffer in done:
                        continue
                    done.add(constant.buffer)
                    job = Job(
                        constant, tensor, operator.code, min(role, 8), own or (), self._zero_point(tensor)
                    )
                    made = self._constant(job, plans.get(constant.buffer))
                    if role == 1 and made:
                        own = made
                if own and operator.outputs and operator.outputs[0] >= 0:
                    classes[operator.outputs[0]] = own
        for buffer in sorted(by_buffer):
            if buffer not in done:
                self._constant(Job(by_buffer[buffer], self._any(graphs, buffer)), plans.get(buffer))

    def _any(self, graphs: list[Graph], buffer: int) -> Tensor | None:
        return next((t for g in graphs for t in g.tensors if t.buffer == buffer), None)

    def _zero_point(self, tensor: Tensor) -> int:
        if not tensor.zero_points or tensor.type not in (INT8, UINT8):
            return 0
        place = tensor.zero_point
        value = int.from_bytes(self._data[place : place + 8], "little", signed=True)
        return value if -128 <= value <= 255 else 0

    def _content(self, constant: Constant) -> bytes:
        return bytes(self._data[constant.position : constant.position + constant.length])

    def _constant(self, job: Job, plan: Plan | None) -> list[int]:
        """Code one constant; returns the classes of density of a matrix's rows."""
        numbers, constant = self._numbers, job.constant
        content = b"" if numbers.decoding else self._content(constant)
        classes: list[int] = []
        if numbers.decoding:
            mode = numbers.unsigned(_KEY_MODE, 0, job.type, job.role)
            content, classes = self._code(mode, job, b"", None)
            self._data[constant.position : constant.position + constant.length] = content
            return classes
        assert plan is not None
        best, cost = plan.modes[0], 1 << 62
        begin = numbers.mark(), self._side.count
        for mode in plan.modes:
            before = numbers.coder.length + self._side.length
            classes = self._code_as(mode, job, content, plan)
            made = numbers.coder.length + self._side.length - before
            if made < cost:
                best, cost = mode, made
            if mode != best or mode != plan.modes[-1]:
                numbers.rewind(begin[0])
                self._side.rewind(begin[1])
        return classes if best == plan.modes[-1] else self._code_as(best, job, content, plan)

    def _code_as(self, mode: int, job: Job, content: bytes, plan: Plan) -> list[int]:
        self._numbers.unsigned(_KEY_MODE, mode, job.type, job.role)
        return self._code(mode, job, content, plan)[1]

    def _code(  # noqa: PLR0911  one for each coder
        self, mode: int, job: Job, content: bytes, plan: Plan | None
    ) -> tuple[bytes, list[int]]:
        """Code the content in one way; returns it, and the classes of density of a matrix's rows."""
        numbers, length = self._numbers, job.constant.length
        if mode == STORED:
            if not numbers.decoding:
                self._side.put(content)
                return content, []
            return self._side.take(length), []
        if mode == ZSTD:
            frame = plan.frame if plan else b""
            size = numbers.unsigned(_KEY_SIZE, len(frame))
            if numbers.decoding:
                return static.decompressed(self._side.take(size), length), []
            self._side.put(frame)
            return content, []
        if mode == PLANES:
            plans = plan.planes if plan else []
            return static.code_planes(numbers, self._side, content, job.size, length, plans), []
        if mode == INTEGERS and job.type in INTEGER_TYPES and job.size * 8 == _BITS[job.type]:
            return self._integers(job, content), []
        if mode == FLOATS and job.type == FLOAT32 and job.size == 4:
            bits = np.frombuffer(content, "<u4").tolist() or [0] * job.count
            made = [numbers.float_bits(_KEY_FLOAT + 2 * (job.role == 2), value) for value in bits]
            return np.array(made, "<u4").tobytes(), []
        if mode in (MATRIX, LEVELS):
            return self._matrix(mode, job, plan)
        if mode == RANKS and job.size > 1:
            return self._ranks(job, plan), []
        if mode == TEXT:
            return numbers.text(_KEY_VALUE, content, length), []
        raise CorruptPtz("a constant has an unknown coder")

    def _integers(self, job: Job, content: bytes) -> bytes:
        """Numbers by their common power of two and what is left of each."""
        numbers, kind = self._numbers, INTEGER_TYPES[job.type]
        bits = 8 * job.size
        values: list[int] = np.frombuffer(content, kind).tolist()
        shift = 0
        if values:
            joined = 0
            for value in values:
                joined |= value
            shift = (joined & -joined).bit_length() - 1 if joined else 0
        shift = numbers.unsigned(_KEY_SHIFT, shift, job.role)
        if shift >= bits:
            raise CorruptPtz("a constant is shifted too far")
        alive, made = job.alive, []
        key = _KEY_VALUE if job.role == 2 else _KEY_VALUE + 1
        before = 0
        for k in range(job.count):
            born = 0
            if job.role == 2 and len(alive) == job.count:
                born = 1 + (alive[k] > 0)
            value = values[k] >> shift if values else 0
            value = numbers.signed(key, value, job.constant.buffer * 4 + born, before)
            before = min(abs(value).bit_length(), 31)
            made.append(value << shift)
        low, high = (0, 1 << bits) if kind[1] == "u" else (-(1 << bits - 1), 1 << bits - 1)
        if not all(low <= value < high for value in made):
            raise CorruptPtz("a constant does not fit its type")
        return np.array(made, kind).tobytes()

    def _matrix(self, mode: int, job: Job, plan: Plan | None) -> tuple[bytes, list[int]]:
        numbers = self._numbers
        rows, columns, last = job.matrix()
        if rows * columns == 0 or (mode == MATRIX and job.type not in (INT8, UINT8, INT4)):
            raise CorruptPtz("a constant has an unknown coder")
        levels = self._levels(job, plan) if mode == LEVELS else None
        values = None
        up = 1
        if plan is not None and plan.values is not None:
            values = plan.values
            up = _stride(values.reshape(rows, columns), job, last)
        up = numbers.unsigned(_KEY_UP, up, job.code)
        if not 0 < up <= max(columns, 1):
            raise CorruptPtz("a matrix has an impossible stride")
        shape = Shape(rows, columns, up)
        by_column = () if job.is_depthwise or not job.alive or columns % len(job.alive) else job.alive
        by_row = job.alive if job.is_depthwise and len(job.alive) == rows else ()
        matrix = Matrix(numbers.coder, shape, by_column, by_row, numbers.initial)
        made = matrix.code(values.reshape(rows, columns) if values is not None else None)
        if not numbers.decoding:
            return b"", matrix.row_classes
        flat = made.T.ravel() if job.is_depthwise else made.ravel()
        return _packed(flat, levels, job), matrix.row_classes

    def _ranks(self, job: Job, plan: Plan | None) -> bytes:
        """The levels, and the rank of each element as a plane of bytes."""
        levels = self._levels(job, plan)
        given, plans = (plan.ranks, static.plan(plan.ranks, 1)) if plan else (b"", [])
        ranks = static.code_planes(self._numbers, self._side, given, 1, job.count, plans)
        flat = np.frombuffer(ranks, np.uint8).astype(np.int64) - _center(levels)
        return _packed(flat, levels, job) if self._numbers.decoding else b""

    def _levels(self, job: Job, plan: Plan | None) -> Integers:
        """The distinct values, the lowest first."""
        numbers = self._numbers
        given: list[int] = plan.levels.tolist() if plan is not None and plan.levels is not None else []
        count = 1 + numbers.unsigned(_KEY_LEVELS, len(given) - 1)
        if count > MOST_LEVELS:
            raise CorruptPtz("a constant has too many levels")
        made = [numbers.signed(_KEY_LEVEL, given[0] if given else 0, job.size)]
        for k in range(1, count):
            step = numbers.unsigned(_KEY_LEVEL + 4, given[k] - given[k - 1] - 1 if given else 0, job.size)
            made.append(made[-1] + 1 + step)
        if made[-1] >= 1 << 31 or made[0] < -(1 << 31):
            raise CorruptPtz("a constant does not fit its type")
        return np.array(made, np.int64)

    # What to try when encoding.

    def _plans(self, graphs: list[Graph], by_buffer: dict[int, Constant]) -> dict[int, Plan]:
        """A plan for every constant; those with the fewest decisions an element have them first."""
        plans = {}
        jobs: dict[int, Job] = {}
        for graph in graphs:
            for operator in graph.operators:
                for role, index in enumerate(operator.inputs):
                    if index >= 0 and graph.tensors[index].buffer in by_buffer:
                        tensor = graph.tensors[index]
                        job = Job(by_buffer[tensor.buffer], tensor, operator.code, min(role, 8))
                        job.zero_point = self._zero_point(tensor)
                        jobs.setdefault(tensor.buffer, job)
        for buffer, constant in by_buffer.items():
            job = jobs.setdefault(buffer, Job(constant, self._any(graphs, buffer)))
            plans[buffer] = plan_of(job, self._content(constant), self._budget, self._level)
        left = self._budget
        for buffer in sorted(
            plans, key=lambda b: (max(plans[b].decisions.values(), default=0) / jobs[b].count, b)
        ):
            plan = plans[buffer]
            plan.modes = [mode for mode in plan.modes if plan.decisions.get(mode, 0) <= left]
            left -= max((plan.decisions.get(mode, 0) for mode in plan.modes), default=0)
        return plans


def plan_of(job: Job, content: bytes, budget: int, level: int) -> Plan:
    """What the constant may be coded as, with at most `budget` decisions."""
    planes = static.plan(content, job.size)
    frame = static.compressed(content, level) if level else b""
    modes = [STORED]
    if frame and len(frame) < len(content):
        modes.append(ZSTD)
    if any(plane.coder for plane in planes):
        modes.append(PLANES)
    decisions: dict[int, int] = {}
    if job.count <= MOST_NUMBERS:
        if job.type in INTEGER_TYPES and job.size * 8 == _BITS[job.type]:
            numbers = np.frombuffer(content, INTEGER_TYPES[job.type]).astype(np.float64)
            decisions[INTEGERS] = int((2 * np.log2(2 * np.abs(numbers) + 1) + 1).sum())
        if job.type == FLOAT32 and job.size == 4:
            decisions[FLOATS] = 30 * job.count
        if job.tensor is None and job.count <= LONGEST_TEXT:
            decisions[TEXT] = 8 * job.count
    modes.extend(decisions)
    plan = Plan(modes, planes, frame, decisions=decisions)
    elements = _elements(content, job) if _fewest_decisions(content, job) <= budget else None
    if elements is None:
        return plan
    levels, ranks = np.unique(elements, return_inverse=True)
    direct = job.type in (INT8, UINT8, INT4)
    span = int(levels[-1]) - int(levels[0]) + 1
    if 1 < len(levels) <= MOST_LEVELS and 4 * len(levels) <= 3 * span:
        plan.levels = levels.astype(np.int64)
        plan.values = ranks.ravel().astype(np.int64) - _center(levels)
        if not direct:
            plan.ranks = ranks.ravel().astype(np.uint8).tobytes()
            modes.append(RANKS)
    elif direct:
        plan.values = elements
    else:
        return plan
    if job.is_depthwise:
        rows, columns, _ = job.matrix()
        plan.values = np.ascontiguousarray(plan.values.reshape(columns, rows).T).ravel()
    slowest = MATRIX if plan.levels is None else LEVELS
    decisions[slowest] = _decisions(plan.values, *job.matrix()[:2])
    modes.append(slowest)
    return plan


def _elements(content: bytes, job: Job) -> Integers | None:
    """The elements as integers in their own order; of floats their bits so folded that they sort as
    floats do.
    """
    if job.type == INT8:
        return np.frombuffer(content, np.int8).astype(np.int64) - job.zero_point
    if job.type == UINT8:
        return np.frombuffer(content, np.uint8).astype(np.int64) - job.zero_point
    if job.type == INT4:
        raw = np.frombuffer(content, np.uint8).astype(np.int64)
        pairs = np.stack([raw & 15, raw >> 4], axis=1).ravel()
        return np.where(pairs > 7, pairs - 16, pairs)
    if job.size not in (2, 4) or job.type not in ELEMENT_BYTES:
        return None
    elements = np.frombuffer(content, f"<i{job.size}").astype(np.int64)
    return _folded(elements, job)


def _folded(elements: Integers, job: Job) -> Integers:
    """Of floats: negative ones upside down, so that integers sort as they do; its own inverse."""
    if job.type not in (FLOAT32, 1):
        return elements
    low = -(1 << 8 * job.size - 1)
    return np.where(elements < 0, low - 1 - elements, elements)


def _center(levels: Integers) -> int:
    """The rank of the level nearest to zero, the lower one of two."""
    return int(np.abs(levels).argmin())


def _packed(flat: Integers, levels: Integers | None, job: Job) -> bytes:
    """The bytes of a matrix's elements.

    Raises:
        CorruptPtz: when an element does not fit its type.
    """
    if levels is not None:
        ranks = flat + _center(levels)
        if int(ranks.min()) < 0 or int(ranks.max()) >= len(levels):
            raise CorruptPtz("an element is no level")
        flat = levels[ranks]
    if job.type in (INT8, UINT8):
        flat = flat + job.zero_point
        low, high = (-128, 127) if job.type == INT8 else (0, 255)
    elif job.type == INT4:
        low, high = -8, 7
    else:
        flat = _folded(flat, job)
        low, high = -(1 << 8 * job.size - 1), (1 << 8 * job.size - 1) - 1
    if int(flat.min()) < low or int(flat.max()) > high:
        raise CorruptPtz("a constant does not fit its type")
    if job.type == INT4:
        pairs = (flat & 15).reshape(-1, 2)
        return (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()
    return flat.astype(f"<{'u' if job.type == UINT8 else 'i'}{job.size}").tobytes()


def _stride(values: Integers, job: Job, last: int) -> int:
    columns = values.shape[1]
    if job.is_depthwise:
        return 1
    some = values[:: max(1, len(values) // 256)]
    if 1 < last < columns:
        return last
    limit = min(columns // 2, 256)
    return stride_of(some, range(2, limit + 1)) if columns <= 1 << 14 else 1


def _fewest_decisions(content: bytes, job: Job) -> int:
    """What a matrix of single bytes takes at least: three for each element that is not the most frequent one.

    Known before anything is laid out in integers, which take many times the memory of the constant.
    """
    if job.type not in (INT8, UINT8) or not content:
        return 0
    return 3 * (len(content) - int(np.bincount(np.frombuffer(content, np.uint8)).max()))


def _decisions(values: Integers, rows: int, columns: int) -> int:
    """About how many decisions the matrix takes."""
    matrix = np.abs(values.reshape(rows, columns))
    present = matrix > 0
    visited = int(present.any(1).sum()) * int(present.any(0).sum())
    sizes = matrix[present]
    if int(sizes.max(initial=0)) > WIDE:
        each = int((2 * np.log2(np.maximum(sizes, 1)).astype(np.int64) + 1).sum())
    else:
        each = int(sizes.sum())
    return visited + len(sizes) + each + 4 * (rows + columns)
