"""One pass over an array: its digest, its extremes, and whether every value is a number."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .faults import mismatch


@dataclass
class Scan:
    """What a pass has seen; complete when its pieces are used up.

    Attributes:
        name: of the array, for errors.
        low, high: smallest and largest value with the sample where it first stands, of integers only.
    """

    name: str
    low: tuple[int, int] | None = None
    high: tuple[int, int] | None = None
    _digest: Any = field(default_factory=hashlib.sha256)

    @property
    def sha256(self) -> str:
        """Hex digest of the bytes in C order and native byte order."""
        return str(self._digest.hexdigest())

    def over(self, pieces: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        """Pass the pieces on and look at them.

        Raises:
            DataFault: at the first sample that is not finite as float32.
        """
        first = 0
        for piece in pieces:
            self._digest.update(np.ascontiguousarray(piece).data)
            if piece.dtype.kind == "f":
                self._check_finite(piece, first)
            elif piece.dtype.kind in "iu":
                self._note_extremes(piece, first)
            first += len(piece)
            yield piece

    def _check_finite(self, piece: NDArray[Any], first: int) -> None:
        with np.errstate(over="ignore"):
            finite = np.isfinite(piece.astype(np.float32, copy=False))
        if not finite.all():
            place = np.argwhere(~finite)[0]
            value = piece[tuple(place)]
            raise mismatch(
                f"array {self.name!r} has {value} at sample {first + int(place[0]):,} "
                f"(position {place[1:].tolist()}); every value must be a finite float32"
            )

    def _note_extremes(self, piece: NDArray[Any], first: int) -> None:
        row = max(1, piece.size // len(piece))
        flat = piece.reshape(-1)
        low, high = int(flat.argmin()), int(flat.argmax())
        if self.low is None or int(flat[low]) < self.low[0]:
            self.low = int(flat[low]), first + low // row
        if self.high is None or int(flat[high]) > self.high[0]:
            self.high = int(flat[high]), first + high // row
