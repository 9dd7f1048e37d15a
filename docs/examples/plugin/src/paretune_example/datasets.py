"""The IDX format of MNIST and its relatives: FOLDER/PREFIX-images-idx3-ubyte and -labels-idx1-ubyte."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class IdxDataset:
    """What Paretune asks of a data set.

    Attributes:
        arrays: samples as `x`, labels as `y`; anything with shape, dtype and slices will do.
        fingerprint: changes with the content, so that Paretune reads it only once.
    """

    arrays: Mapping[str, NDArray[Any]]
    fingerprint: str


def open_idx(uri: str) -> IdxDataset:
    """Open `FOLDER/PREFIX`, such as `/data/mnist/train`; files are mapped, not loaded."""
    files = {"x": Path(f"{uri}-images-idx3-ubyte"), "y": Path(f"{uri}-labels-idx1-ubyte")}
    digest = hashlib.sha256()
    for path in files.values():
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return IdxDataset({name: _mapped(path) for name, path in files.items()}, digest.hexdigest())


def _mapped(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        zero, kind, axes = file.read(2), file.read(1)[0], file.read(1)[0]
        if zero != b"\0\0" or kind not in _TYPES:
            raise ValueError(f"{path} is no IDX file")
        shape = tuple(int(size) for size in np.frombuffer(file.read(4 * axes), ">u4"))
    return np.memmap(path, _TYPES[kind], "r", offset=4 + 4 * axes, shape=shape)
