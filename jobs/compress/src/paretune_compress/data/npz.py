"""The .npz format: a zip of .npy members, streamed."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from .faults import DataFault
from .npy import read_header, rows
from .sources import Array, ArraySource, Source

MAX_MEMBERS = 10_000


def open_npz(path: Path, sha256: str) -> Source:
    """The arrays of an .npz file; members that are read later are not touched now.

    Args:
        path: the file.
        sha256: of the file, its identity.

    Raises:
        DataFault: when the zip or a header is damaged, or a member is encrypted or has an odd compression.
    """
    arrays: dict[str, ArraySource] = {}
    faults: dict[str, DataFault] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS:
                raise DataFault(f"the .npz has {len(members):,} members; at most {MAX_MEMBERS:,} are read")
            for member in members:
                if not member.filename.endswith(".npy"):
                    continue
                name = member.filename.removesuffix(".npy")
                if name in arrays or name in faults:
                    raise DataFault(f"the .npz holds array {name!r} twice")
                try:
                    arrays[name] = _member_source(path, archive, member, name)
                except DataFault as fault:
                    faults[name] = fault
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise DataFault(f"the .npz is damaged or truncated: {error}") from error
    if not arrays and not faults:
        raise DataFault("the .npz holds no array; expected x and y, or one for each model input")
    return Source(arrays=arrays, faults=faults, identity={"sha256": sha256})


def _member_source(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> ArraySource:
    if member.flag_bits & 0x1:
        raise DataFault(f"array {name!r} of the .npz is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataFault(
            f"array {name!r} of the .npz has compression {member.compress_type}; expected deflate"
        )
    with archive.open(member) as file:
        header = read_header(file, name)
        there = member.file_size - file.tell()
    if there < header.total_bytes:
        raise DataFault(
            f"array {name!r} of the .npz is truncated: shape {list(header.shape)} of {header.dtype} takes "
            f"{header.total_bytes:,} bytes, it has {there:,}"
        )

    def chunks(count: int) -> Iterator[Array]:
        try:
            with zipfile.ZipFile(path) as again, again.open(member.filename) as file:
                read_header(file, name)
                yield from rows(file, name, header, count)
                file.read(1)  # the end, where the checksum is compared
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise DataFault(f"array {name!r} of the .npz is damaged: {error}") from error

    return ArraySource(header.shape, header.dtype.newbyteorder("="), chunks)
