"""Batches of a prepared split, streamed from disk."""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.dataset import ArrayInfo, DataInfo, Scaling
from paretune_contract.failure import Reason, StageError

from .faults import DataFault
from .npy import read_header

RESIDENT_BYTES = 64 << 20
"""Mapped pages are given back to the kernel after about this many bytes, for each array."""
_PAGES_AROUND = 2 << 20  # at most what the kernel maps beside a page that is touched: a huge page


@dataclass(frozen=True)
class Batch:
    """Some samples, as the model takes them.

    Attributes:
        inputs: by input name, float32 [n, ...], scaled.
        labels: [n] or [n, ...] as stored; None where the split has none.
    """

    inputs: dict[str, NDArray[np.float32]]
    labels: NDArray[Any] | None


class PreparedSplit:
    """A prepared split.

    Args:
        info: what `prepare` returned.
        scaling: model input = float32(x) * scale + offset.
    """

    def __init__(self, info: DataInfo, scaling: Scaling) -> None:
        self.info = info
        self._folder = Path(info.folder)
        self._scale, self._offset = _factor(scaling.scale, 1.0), _factor(scaling.offset, 0.0)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return self.info.samples

    def labels(self) -> NDArray[Any] | None:
        """All labels, memory-mapped and read-only; None where the split has none."""
        if self.info.labels is None:
            return None
        return _Mapped(self._folder, self.info.labels).array

    def batches(self, size: int, *, indices: NDArray[Any] | None = None) -> Iterator[Batch]:
        """Batches of `size` samples, the last one smaller where they do not divide.

        Memory stays bounded whatever the set's size.

        Args:
            size: samples in a batch, at least 1.
            indices: which samples, in which order; all of them in their order by default.

        Raises:
            ValueError: when size < 1 or an index is out of range.
            StageError: DATA_UNREADABLE when a file is gone or has changed.
        """
        if size < 1:
            raise ValueError(f"a batch of {size} samples")
        if indices is not None and len(indices) and not 0 <= indices.min() <= indices.max() < self.samples:
            raise ValueError(f"an index lies outside 0..{self.samples - 1}")
        return self._batches(size, indices)

    def _batches(self, size: int, indices: NDArray[Any] | None) -> Iterator[Batch]:
        inputs = {name: _Mapped(self._folder, array) for name, array in self.info.inputs.items()}
        labels = _Mapped(self._folder, self.info.labels) if self.info.labels is not None else None
        count = self.samples if indices is None else len(indices)
        for first in range(0, count, size):
            last = min(first + size, count)
            rows = slice(first, last) if indices is None else indices[first:last]
            yield Batch(
                inputs={name: self._scaled(mapped.take(rows)) for name, mapped in inputs.items()},
                labels=None if labels is None else labels.take(rows),
            )

    def _scaled(self, values: NDArray[Any]) -> NDArray[np.float32]:
        scaled = values.astype(np.float32, copy=False)
        if self._scale is not None:
            scaled = np.multiply(scaled, self._scale, out=scaled)
        if self._offset is not None:
            scaled = np.add(scaled, self._offset, out=scaled)
        return scaled


def _factor(value: float | tuple[float, ...], neutral: float) -> NDArray[np.float32] | None:
    array = np.asarray(value, np.float32)
    return None if (array == neutral).all() else array


class _Mapped:
    """A .npy file as a read-only map whose pages are given back regularly."""

    def __init__(self, folder: Path, info: ArrayInfo) -> None:
        path = folder / info.file
        try:
            with path.open("rb") as file:
                header = read_header(file, info.file)
                start = file.tell()
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, DataFault) as error:
            raise StageError(
                Reason.DATA_UNREADABLE, f"{path}: prepared data cannot be read: {error}"
            ) from error
        shape, fortran, dtype = header
        whole = start + header.total_bytes <= len(self._map)
        same = prod(shape) == prod(info.shape) and dtype.name == info.dtype
        if not whole or not same or fortran or not dtype.isnative:
            raise StageError(
                Reason.DATA_UNREADABLE,
                f"{path}: the file has changed since it was looked through: {dtype} {list(shape)}, "
                f"was {info.dtype} {list(info.shape)}; run the study anew",
            )
        flat = np.frombuffer(self._map, dtype, prod(shape), start)
        self.array = flat.reshape(info.shape)
        self._row = max(1, self.array.nbytes // info.shape[0])
        self._touched = 0

    def take(self, rows: "slice | NDArray[Any]") -> NDArray[Any]:
        """A copy of some rows."""
        if isinstance(rows, slice):
            self._touched += (rows.stop - rows.start) * self._row
        else:
            self._touched += len(rows) * (self._row + _PAGES_AROUND)
        taken: NDArray[Any] = np.array(self.array[rows])
        if self._touched > RESIDENT_BYTES < self.array.nbytes:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0
        return taken
