"""The port of data sets: named arrays, read in chunks of rows."""

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_store.steps import JSON

from .faults import DataFault

Array = NDArray[Any]

LABELS = "y"
SAMPLES = "x"
CHUNK_BYTES = 8 << 20
MAX_ROW_BYTES = 256 << 20
MAX_AXES = 8


@dataclass(frozen=True)
class ArraySource:
    """One array of a data set.

    Attributes:
        shape: with the samples' axis first.
        dtype: as stored; booleans, integers or floats.
        chunks: `chunks(rows)` yields the array in pieces of at most `rows` rows, in order.
        file: the .npy file when it can be mapped as it is, else None.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: Callable[[int], Iterator[Array]]
    file: Path | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one sample."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def total_bytes(self) -> int:
        """Bytes of all samples."""
        return self.shape[0] * self.row_bytes

    def pieces(self) -> Iterator[Array]:
        """The array in pieces of about CHUNK_BYTES."""
        return self.chunks(max(1, CHUNK_BYTES // max(1, self.row_bytes)))


@dataclass(frozen=True)
class Source:
    """An opened data set.

    Attributes:
        arrays: by name: `x` or the model's input names, and `y` for labels.
        faults: of arrays that cannot be read; they matter only where such an array is needed.
        identity: what tells this content from any other, for the step cache.
        class_names: by label, where the source knows them.
        notes: sentences for people.
    """

    arrays: Mapping[str, ArraySource]
    identity: Mapping[str, JSON]
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    faults: Mapping[str, DataFault] = field(default_factory=dict)


def check_header(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse arrays that are no plain numbers or whose shape is absurd, before anything is allocated.

    Raises:
        DataFault: naming the array and what was found.
    """
    if dtype.hasobject:
        raise DataFault(
            f"array {name!r} holds Python objects (pickles), which are never loaded; save numbers"
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataFault(f"array {name!r} has type {dtype}; expected booleans, integers or floats")
    if not shape:
        raise DataFault(f"array {name!r} is a single value; its first axis must count the samples")
    if len(shape) > MAX_AXES or any(not 0 <= size < 2**40 for size in shape):
        raise DataFault(f"array {name!r} has the absurd shape {list(shape)}")
    if shape[0] == 0:
        raise DataFault(f"array {name!r} has no samples: its shape is {list(shape)}")
    if 0 in shape:
        raise DataFault(f"array {name!r} is empty: its shape is {list(shape)}")
    if prod(shape[1:]) * dtype.itemsize > MAX_ROW_BYTES:
        raise DataFault(
            f"array {name!r} of shape {list(shape)} has more than {MAX_ROW_BYTES >> 20} MiB in one sample"
        )


def looks_like_npz(path: Path) -> bool:
    """Whether the file is a zip that holds .npy members."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist()[:1000])
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
