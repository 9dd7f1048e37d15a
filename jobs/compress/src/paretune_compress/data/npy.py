"""The .npy format (numpy.lib.format), read in pieces and never unpickled."""

import io
import os
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from .faults import DataFault
from .sources import Array, ArraySource, Source, check_header

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000
MAX_FORTRAN_BYTES = 256 << 20


class Header(NamedTuple):
    """What a .npy header says; `fortran` means that the first axis varies fastest."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def total_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], name: str) -> Header:
    """The header at the start of `file`, which is left at the first byte of data.

    Raises:
        DataFault: when the header is none, or one of an array that is not read.
    """
    start = file.read(8)
    if len(start) < 8 or start[:6] != MAGIC:
        raise DataFault(f"array {name!r} is no .npy: it begins with {start[:6]!r}, expected {MAGIC!r}")
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0)):
        raise DataFault(f"array {name!r} is .npy of version {version[0]}.{version[1]}; expected 1.0 or 2.0")
    size_bytes = file.read(2 if version == (1, 0) else 4)
    size = int.from_bytes(size_bytes, "little")
    if size > MAX_HEADER:
        raise DataFault(f"array {name!r} has a header of {size:,} bytes; at most {MAX_HEADER:,} are read")
    text = io.BytesIO(size_bytes + file.read(size))
    try:
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(text)
    except Exception as error:  # numpy's parser of headers raises whatever Python's tokenizer does
        raise DataFault(f"array {name!r} has a damaged header: {str(error)[:200]}") from error
    shape = tuple(int(size) for size in shape)
    check_header(name, shape, dtype)
    return Header(shape, bool(fortran and len(shape) > 1), dtype)


def rows(file: IO[bytes], name: str, header: Header, count: int) -> Iterator[Array]:
    """The data behind a header in pieces of at most `count` rows, in native byte order.

    Raises:
        DataFault: when the data end too early, or are in Fortran order and too large to turn around.
    """
    shape, fortran, dtype = header
    native = dtype.newbyteorder("=")
    if fortran:
        if header.total_bytes > MAX_FORTRAN_BYTES:
            raise DataFault(
                f"array {name!r} is stored in Fortran order and has {header.total_bytes:,} bytes; "
                "save it with numpy.ascontiguousarray"
            )
        whole = _read(file, name, shape[::-1], dtype).transpose()
        for first in range(0, shape[0], count):
            yield np.ascontiguousarray(whole[first : first + count], native)
        return
    for first in range(0, shape[0], count):
        piece = _read(file, name, (min(count, shape[0] - first), *shape[1:]), dtype)
        yield piece if dtype == native else piece.astype(native)


def _read(file: IO[bytes], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    wanted = prod(shape) * dtype.itemsize
    data = bytearray(wanted)
    view, received = memoryview(data), 0
    while received < wanted:
        part = file.readinto(view[received:])  # type: ignore[attr-defined]
        if not part:
            raise DataFault(f"array {name!r} ends early: {received:,} of {wanted:,} bytes of a piece")
        received += part
    return np.frombuffer(data, dtype).reshape(shape)


def file_source(path: Path, name: str) -> ArraySource:
    """An array in a .npy file.

    Raises:
        DataFault: when the header is damaged or promises more data than the file has.
    """
    with path.open("rb") as file:
        header = read_header(file, name)
        there = os.fstat(file.fileno()).st_size - file.tell()
    if there < header.total_bytes:
        raise DataFault(
            f"array {name!r} ({path.name}) is truncated: shape {list(header.shape)} of {header.dtype} takes "
            f"{header.total_bytes:,} bytes, the file has {there:,}"
        )

    def chunks(count: int) -> Iterator[Array]:
        with path.open("rb") as file:
            read_header(file, name)
            yield from rows(file, name, header, count)

    mappable = header.dtype.isnative and not header.fortran
    return ArraySource(header.shape, header.dtype.newbyteorder("="), chunks, path if mappable else None)


def write(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], pieces: Iterable[Array]) -> None:
    """Write pieces of rows one after another as one .npy file."""
    with path.open("wb") as file:
        header = {"descr": npy_format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        npy_format.write_array_header_1_0(file, header)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype).data)


def open_folder(folder: Path) -> Source:
    """A folder of .npy files, or one such file as `x`; each array is named after its file.

    Raises:
        DataFault: when there is none, or one is damaged.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob("*.npy"))
    if not files:
        raise DataFault(
            "the folder holds no .npy file; expected x.npy and y.npy, or one for each model input"
        )
    if len(files) > 1000:
        raise DataFault(f"the folder holds {len(files):,} .npy files; expected one for each model input")
    names = {file: "x" if folder.is_file() else file.stem for file in files}
    arrays: dict[str, ArraySource] = {}
    faults: dict[str, DataFault] = {}
    for file, name in names.items():
        try:
            arrays[name] = file_source(file, name)
        except DataFault as fault:
            faults[name] = fault
    return Source(arrays=arrays, faults=faults, identity={name: stamp(file) for file, name in names.items()})


def stamp(path: Path) -> list[str | int]:
    """What changes when a file is written to: its place, size, inode and times."""
    status = path.stat()
    return [str(path), status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
