"""Data sets of installed packages: entry points in the group `paretune.datasets`.

An entry point names a callable `open(uri: str) -> Dataset`; `dataset.<split>.format` in the manifest is the
entry point's name. The URI is the plugin's own affair and is not fetched.
"""

import uuid
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import StageError

from .faults import DataFault
from .sources import ArraySource, Source, check_header

GROUP = "paretune.datasets"


class Sliceable(Protocol):
    """An array that is read in slices, such as numpy.memmap, h5py.Dataset or zarr.Array.

    `array[a:b]` gives the samples a..b-1 as a numpy array of shape [b - a, *shape[1:]].
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, rows: slice) -> Any: ...


class Dataset(Protocol):
    """What `open(uri)` returns.

    Optional attributes: `class_names`, a sequence of names by label; `fingerprint`, a string that changes
    whenever the content does (without it the set is read anew at the start of every study).
    """

    @property
    def arrays(self) -> Mapping[str, Sliceable]:
        """Samples as `x` or by the model's input names, labels as `y`."""
        ...


def open_plugin(name: str, uri: str) -> Source:
    """The data set that the entry point `name` opens for `uri`.

    Raises:
        DataFault: when no such entry point is installed, or what it returns is no Dataset.
    """
    point = _find(name)
    try:
        dataset = point.load()(uri)
        arrays = {str(key): _array(str(key), array) for key, array in dataset.arrays.items()}
        names = getattr(dataset, "class_names", None)
        fingerprint = getattr(dataset, "fingerprint", None)
    except (DataFault, StageError):
        raise
    except Exception as error:  # foreign code may raise anything
        raise DataFault(f"the data set plugin {name!r} failed: {type(error).__name__}: {error}") from error
    return Source(
        arrays=arrays,
        identity={
            "plugin": [name, point.value, point.dist.version if point.dist else ""],
            "uri": uri,
            "fingerprint": str(fingerprint) if fingerprint is not None else f"unknown-{uuid.uuid4().hex}",
        },
        class_names=tuple(map(str, names)) if names is not None else None,
    )


def _find(name: str) -> EntryPoint:
    installed = entry_points(group=GROUP)
    for point in installed:
        if point.name == name:
            return point
    known = ", ".join(sorted({"npz", "npy", "images"} | {point.name for point in installed}))
    raise DataFault(f"format {name!r} is unknown; known are {known} (plugins are entry points in {GROUP})")


def _array(name: str, array: Sliceable) -> ArraySource:
    shape, dtype = tuple(int(size) for size in array.shape), np.dtype(array.dtype)
    check_header(name, shape, dtype)
    native = dtype.newbyteorder("=")

    def chunks(rows: int) -> Iterator[NDArray[Any]]:
        for first in range(0, shape[0], rows):
            last = min(first + rows, shape[0])
            try:
                piece = np.asarray(array[first:last], native)
            except Exception as error:  # foreign code may raise anything
                raise DataFault(f"array {name!r} failed at sample {first}: {error}") from error
            if piece.shape != (last - first, *shape[1:]):
                raise DataFault(
                    f"array {name!r} of shape {list(shape)} gave {list(piece.shape)} for [{first}:{last}]"
                )
            yield piece

    return ArraySource(shape, native, chunks)
