"""Files that are there whole or not at all, and their digests."""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from paretune_contract.failure import Reason, StageError

_CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_folder(folder: Path) -> str:
    """sha256 (hex) over the names and bytes of all files below `folder`, in name order.

    Linked files count with the bytes that they link to; linked and empty folders do not count.
    """
    digest = hashlib.sha256()
    for name in relative_files(folder, links=True):
        digest.update(f"{name}\0{sha256_file(folder / name)}\n".encode())
    return digest.hexdigest()


def relative_files(folder: Path, *, links: bool = False) -> list[str]:
    """Posix paths, relative to `folder`, of the regular files below it, sorted; links to files if wanted."""
    found: list[str] = []
    for base, _, names in os.walk(folder, followlinks=False):
        for name in names:
            path = Path(base) / name
            if path.is_file() and (links or not path.is_symlink()):
                found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`; files that vanish meanwhile count as nothing."""
    total = 0
    for base, _, names in os.walk(folder, followlinks=False):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(base) / name).lstat().st_size
    return total


def sync_file(path: Path) -> None:
    """Wait until a file's or folder's content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Wait until everything below `folder`, names included, is on the disk."""
    for base, _, names in os.walk(folder, topdown=False, followlinks=False):
        for name in names:
            sync_file(Path(base) / name)
        sync_file(Path(base))


def atomic_write(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data`: fsync, rename, fsync of the folder. A reader sees the old file or the new."""
    content = data.encode() if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_file(path.parent)


def atomic_copy(source: Path, target: Path) -> None:
    """Copy a file so that `target` is there whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    try:
        shutil.copyfile(source, temporary)
        sync_file(Path(temporary))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_file(target.parent)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that becomes `path` when the block ends, and vanishes when the block fails.

    Raises:
        StageError: STORE_UNAVAILABLE when the disk is full.
    """
    with disk_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_file(path.parent)


@contextlib.contextmanager
def disk_of(path: Path) -> Iterator[None]:
    """Turns a full disk into StageError with STORE_UNAVAILABLE."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StageError(
                Reason.STORE_UNAVAILABLE,
                f"no space left for {path}: free some, or give the pod a larger disk",
            ) from error
        raise
