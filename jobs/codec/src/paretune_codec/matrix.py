"""Integers of a kernel, most of them perhaps zero, with row, column and neighbor contexts.

How dense each row and column is goes first, as a class; rows and columns without values are then never
visited. Every other integer is a flag (zero or not), a sign, and a magnitude.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paretune_codec.errors import CorruptPtz
from paretune_codec.initial import (
    DENSITIES,
    DIGITS,
    LENGTHS,
    MAGNITUDES,
    NOTHING,
    SIGNS,
    ZERO_CLASSES,
    ZERO_SIZES,
    ZEROS,
    Initial,
)
from paretune_codec.logistic import STRETCH
from paretune_codec.mixing import Coder, Slots

Integers = NDArray[np.int64]

CLASSES = (0, 1, 2, 3, 4, 6, 8, 11, 15, 21, 29, 41, 57, 80, 112, 160, 230, 330, 480, 700, 1000)
"""The first count of values that are not zero, of each class of density."""
UNARY = 18
"""Magnitudes up to here are coded by one flag each, unless the matrix has larger ones."""
WIDE = 20
"""Matrices with larger magnitudes than this use the code for wide ones."""
LARGEST_DIGITS = 9
"""Of a magnitude in binary, after the first: no constant that is a matrix has more."""

_DENSITY_SLOTS = 21 + 2 * 21 * 22 + 21 * 64 + 21 * 23
_N = len(CLASSES)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a kernel is visited: `rows` times `columns`, with the element `up` places before as a
    neighbor.
    """

    rows: int
    columns: int
    up: int


class Matrix:
    """Codes one matrix; a new one for each, with slots that know what `initial` says and no more.

    `alive` are classes of density of what the columns come from (a column k belongs to alive[k %
    len(alive)]), or empty; `born` are the same for the rows. After `code`, `row_classes` are those of this
    matrix.
    """

    def __init__(
        self,
        coder: Coder,
        shape: Shape,
        alive: Sequence[int] = (),
        born: Sequence[int] = (),
        initial: Initial = NOTHING,
    ) -> None:
        self._coder = coder
        self._initial = initial
        self._shape = shape
        self._alive = alive
        self._born = born
        self.row_classes: list[int] = []

    def code(self, values: Integers | None) -> Integers:
        """Code the matrix (rows, columns); `values` is None when decoding."""
        rows, columns = self._shape.rows, self._shape.columns
        wide_slots = Slots(1)
        is_wide = int(values is not None and int(np.abs(values).max(initial=0)) > WIDE)
        wide = bool(self._coder.bit(wide_slots, (0,), [65536], is_wide))
        row_counts = column_counts = None
        if values is not None:
            present = values != 0
            row_counts, column_counts = present.sum(1).tolist(), present.sum(0).tolist()
        self.row_classes = self._densities(rows, row_counts, self._born, 1)
        column_classes = self._densities(columns, column_counts, self._alive, self._shape.up)
        flat = [0] * (rows * columns) if values is None else values.ravel().tolist()
        self._body(flat, column_classes, wide)
        return np.array(flat, np.int64).reshape(rows, columns)

    def _densities(
        self, count: int, counts: list[int] | None, alive: Sequence[int], stride: int
    ) -> list[int]:
        """The class of every row or column, one flag for every class that it is above of."""
        bank, weights = Slots(_DENSITY_SLOTS), [22000] + [14418] * 4
        self._initial.fill(bank, 0, DENSITIES)
        bit = self._coder.bit
        classes: list[int] = []
        for k in range(count):
            wanted = -1 if counts is None else class_of(counts[k])
            one = classes[k - 1] if k else -1
            two = classes[k - 2] if k > 1 else -1
            above = classes[k - stride] if k >= stride > 1 else -1
            near = (one + above + two + 3 >> 1) * 2 + (k % stride == 0)
            born = alive[k % len(alive)] if alive else -1
            found = 0
            while found < _N - 1:
                contexts = (
                    found,
                    _N + found * 22 + one + 1,
                    _N * 23 + found * 22 + above + 1,
                    _N * 45 + found * 64 + near,
                    _N * 109 + found * 23 + born + 1,
                )
                if not bit(bank, contexts, weights, int(wanted > found)):
                    break
                found += 1
            classes.append(found)
        return classes

    def _body(  # noqa: PLR0915  one loop, for speed
        self, flat: list[int], column_classes: list[int], wide: bool
    ) -> None:
        """The integers, row by row; `flat` is filled when decoding."""
        rows, columns, up = self._shape.rows, self._shape.columns, self._shape.up
        bit, decoding, alive = self._coder.bit, self._coder.decoding, self._alive
        born = [alive[k % len(alive)] + 1 if alive else 0 for k in range(columns)]
        zero_bank, zero_weights = (
            Slots(1 + 16 + columns + _N * _N + 6 * _N + 22 * _N + 25),
            [52000] + [5243] * 9,
        )
        at_columns = 17
        at_classes = at_columns + columns
        at_near = at_classes + _N * _N
        at_born = at_near + 6 * _N
        at_size = at_born + 22 * _N
        for at, part in ((0, ZEROS), (at_near, ZERO_CLASSES), (at_size, ZERO_SIZES)):
            self._initial.fill(zero_bank, at, part)
        sign_bank, sign_weights = Slots(1 + 9 + 9 + 7), [22000] + [14418] * 3
        self._initial.fill(sign_bank, 0, SIGNS)
        magnitude_weights = [[22000] + [14418] * 3 for _ in range(4)]
        magnitude_bank = Slots(15 + 15 * 7 + 15 * 14 * 2)
        self._initial.fill(magnitude_bank, 0, MAGNITUDES)
        wide_code = _Wide(self._coder, self._initial)
        row_logits = [_logit(c, columns) for c in self.row_classes]
        column_logits = [_logit(c, rows) for c in column_classes]
        total = sum(CLASSES[c] for c in column_classes)
        mean = STRETCH[min(65535, 65536 * (total + 1) // (rows * columns + 2)) >> 4]
        column_counts, column_sizes, column_signs = [0] * columns, [0] * columns, [0] * columns
        visited = [k for k in range(columns) if column_classes[k]]
        for row, row_class in enumerate(self.row_classes):
            start = row * columns
            if row_class == 0:
                continue
            seen, row_sign, row_size = 0, 0, 0
            row_logit = row_logits[row]
            classes_here = at_classes + row_class * _N
            for k in visited:
                i = start + k
                before = flat[i - 1] if k else 0
                two = flat[i - 2] if k > 1 else 0
                above = flat[i - up] if k >= up else 0
                beside = flat[i - up + 1] if k >= up > 1 else 0
                size_before, size_above = abs(before), abs(above)
                some, some_two, some_above, some_beside = before != 0, two != 0, above != 0, beside != 0
                sizes, count = column_sizes[k], column_counts[k]
                kind = column_classes[k]
                average = sizes // count if count else 0
                contexts = (
                    0,
                    1 + some + 2 * some_two + 4 * some_above + 8 * some_beside,
                    at_columns + k,
                    classes_here + kind,
                    at_near + (some + some_two + 2 * some_above + some_beside) * _N + kind,
                    at_born + born[k] * _N + row_class,
                    at_size + min(size_before + size_above, 4) * 5 + min(average, 4),
                )
                logit = column_logits[k]
                value = flat[i]
                if not bit(
                    zero_bank,
                    contexts,
                    zero_weights,
                    int(value != 0),
                    (row_logit + logit - mean, row_logit, logit),
                ):
                    if decoding:
                        flat[i] = 0
                    continue
                signs = column_signs[k]
                sign_contexts = (
                    0,
                    1 + 3 * _sign(before) + _sign(above),
                    10 + 3 * _sign(signs) + min(abs(signs), 2),
                    19 + max(-3, min(3, row_sign)) + 3,
                )
                negative = bit(sign_bank, sign_contexts, sign_weights, int(value < 0))
                column_average = 2 * sizes // count if count else -1
                row_average = 2 * row_size // seen if seen else -1
                size = abs(value)
                if wide:
                    size = wide_code.code(size, column_average // 2, row_average // 2)
                else:
                    size = _unary(
                        self._coder, magnitude_bank, magnitude_weights, size,
                        min(size_before + size_above, 6),
                        min(column_average, 12) + 1, min(row_average, 12) + 1,
                    )  # fmt: skip
                if decoding:
                    flat[i] = -size if negative else size
                column_counts[k] = count + 1
                column_sizes[k] = sizes + size
                column_signs[k] = signs + (-1 if negative else 1)
                seen += 1
                row_size += size
                row_sign += -1 if negative else 1


def _unary(
    coder: Coder, bank: Slots, weights: list[list[int]], size: int, near: int, column: int, row: int
) -> int:
    """A magnitude of 1 to `UNARY` + 2: one flag for each that it is above of."""
    reached = 1
    while reached < UNARY + 2:
        j = min(reached, 14)
        contexts = (j, 15 + j * 7 + near, 120 + j * 14 + column, 330 + j * 14 + row)
        if not coder.bit(bank, contexts, weights[min(j, 3)], int(size > reached)):
            break
        reached += 1
    return reached


class _Wide:
    """Magnitudes of matrices that have large ones: how many binary digits, then the digits after the
    first.
    """

    def __init__(self, coder: Coder, initial: Initial) -> None:
        self._coder = coder
        self._length_bank, self._length_weights = Slots(10 * (1 + 8 + 8 + 64)), [22000] + [14418] * 3
        self._digit_bank, self._digit_weights = Slots(10 * 48 * (1 + 8)), [22000, 14418]
        initial.fill(self._length_bank, 0, LENGTHS)
        initial.fill(self._digit_bank, 0, DIGITS)

    def code(self, size: int, column: int, row: int) -> int:
        """A magnitude of at least 1; `column` and `row` are the mean magnitudes so far, -1 for none."""
        bit = self._coder.bit
        column, row = bucket(column), bucket(row)
        digits = size.bit_length() - 1
        n = 0
        while True:
            contexts = (n, 10 + n * 8 + column, 90 + n * 8 + row, 170 + n * 64 + column * 8 + row)
            if not bit(self._length_bank, contexts, self._length_weights, int(n < digits)):
                break
            n += 1
            if n > LARGEST_DIGITS:
                raise CorruptPtz("a magnitude is too large")
        result = 1
        for i in range(n - 1, -1, -1):
            place = result if n - i <= 5 else 32 + i
            contexts2 = (n * 48 + place, 480 + (n * 48 + place) * 8 + column)
            result = result << 1 | bit(self._digit_bank, contexts2, self._digit_weights, size >> i & 1)
        return result


def class_of(count: int) -> int:
    """The class of density of so many values."""
    found = 0
    while found < _N - 1 and CLASSES[found + 1] <= count:
        found += 1
    return found


def bucket(mean: int) -> int:
    """A mean magnitude (-1 for none) as one of eight."""
    if mean < 3:
        return max(mean, 0)
    return 3 + (mean >= 5) + (mean >= 8) + (mean >= 14) + (mean >= 30)


def _logit(kind: int, total: int) -> int:
    """The logistic opinion that a class of density is, of `total` places."""
    highest = CLASSES[kind + 1] - 1 if kind + 1 < _N else total
    middle = CLASSES[kind] + min(highest, total)
    return STRETCH[min(65535, 65536 * (middle + 1) // (2 * total + 2)) >> 4]


def _sign(value: int) -> int:
    """0, 1 or 2 for zero, positive or negative."""
    return 0 if value == 0 else 1 if value > 0 else 2


def stride_of(values: Integers, candidates: Sequence[int]) -> int:
    """Of the candidates the distance at which elements of a row resemble each other most."""
    present = (values != 0).astype(np.float64) + np.abs(values) / (1 + float(np.abs(values).max(initial=0)))
    present -= present.mean()
    best, found = 0.0, 1
    for stride in candidates:
        if 1 < stride < values.shape[1]:
            likeness = float((present[:, stride:] * present[:, :-stride]).mean())
            if likeness > best * 1.02:
                best, found = likeness, stride
    return found
