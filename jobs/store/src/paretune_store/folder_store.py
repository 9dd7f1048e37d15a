"""Objects as files below a folder, such as a mounted claim.

Others may write to the claim too. So every folder on the way is opened by its parent's handle and links are
never
followed: whatever is put below the root, nothing outside of it is read or written.
"""

import contextlib
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from paretune_contract.failure import Reason, StageError

from .errors import NetworkFault, NotThere, Refused, TooLarge
from .files import whole_file
from .objects import ObjectInfo, check_name, check_prefix
from .retries import PATIENCE, Patience, persist

TEMPORARY = ".paretune-"
"""Names of files that are being written; no object's name begins with a dot."""
_CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)

_T = TypeVar("_T")


class FolderStore:
    """Objects below `root`, which may be a link itself and is made with the first object.

    Args:
        root: absolute path.
        patience: for file systems on a network.
    """

    def __init__(self, root: Path, patience: Patience = PATIENCE) -> None:
        if not root.is_absolute():
            raise Refused(str(root), "it is no absolute path", "name the folder where the claim is mounted")
        self._root = root
        self._patience = patience

    @property
    def uri(self) -> str:
        return str(self._root)

    def put(self, name: str, path: Path) -> None:
        def attempt() -> None:
            with path.open("rb") as source:
                self._put(name, lambda file: shutil.copyfileobj(source, file, _CHUNK))

        check_name(name)
        self._persist(attempt)

    def put_bytes(self, name: str, data: bytes) -> None:
        check_name(name)
        self._persist(lambda: self._put(name, lambda file: file.write(data)))

    def get(self, name: str, target: Path, limit_bytes: int) -> None:
        def attempt() -> None:
            with self._open(name, limit_bytes) as source, whole_file(target) as file:
                for chunk in _chunks(source, name, limit_bytes):
                    file.write(chunk)

        self._persist(attempt)

    def get_bytes(self, name: str, limit_bytes: int) -> bytes:
        def attempt() -> bytes:
            with self._open(name, limit_bytes) as source:
                return b"".join(_chunks(source, name, limit_bytes))

        return self._persist(attempt)

    def exists(self, name: str) -> bool:
        def attempt() -> bool:
            with self._folder_of(name) as (folder, last):
                return stat.S_ISREG(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode)

        try:
            return self._persist(attempt)
        except NotThere:
            return False

    def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        prefix = check_prefix(prefix, empty=True)

        def attempt() -> tuple[ObjectInfo, ...]:
            with self._folder(prefix.split("/") if prefix else [], prefix) as folder:
                return tuple(
                    sorted(_below(folder, f"{prefix}/" if prefix else ""), key=lambda info: info.name)
                )

        try:
            return self._persist(attempt)
        except NotThere:
            return ()

    def delete(self, name: str) -> None:
        def attempt() -> None:
            with self._folder_of(name) as (folder, last):
                if not stat.S_ISDIR(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode):
                    os.unlink(last, dir_fd=folder)

        with contextlib.suppress(NotThere):
            self._persist(attempt)

    def delete_prefix(self, prefix: str) -> int:
        prefix = check_prefix(prefix)
        found = len(self.list(prefix))

        def attempt() -> None:
            with self._folder_of(prefix) as (folder, last):
                if stat.S_ISDIR(os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode):
                    shutil.rmtree(last, dir_fd=folder)

        with contextlib.suppress(NotThere):
            self._persist(attempt)
        return found

    # --- below ----------------------------------------------------------------------------------------------

    def _persist(self, attempt: Callable[[], _T]) -> _T:
        return persist(self.uri, attempt, self._patience)

    def _put(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        with self._folder_of(name, make=True) as (folder, last):
            temporary = f"{TEMPORARY}{uuid.uuid4().hex}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(temporary, flags, 0o644, dir_fd=folder), "wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, last, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            os.fsync(folder)

    def _open(self, name: str, limit_bytes: int) -> BinaryIO:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe must not stop us
        with self._folder_of(name) as (folder, last):
            file = os.fdopen(os.open(last, flags, dir_fd=folder), "rb")
        there = os.fstat(file.fileno())
        if not stat.S_ISREG(there.st_mode) or there.st_size > limit_bytes:
            file.close()
            if not stat.S_ISREG(there.st_mode):
                raise NotThere(name, self.uri)
            raise TooLarge(name, limit_bytes, there.st_size)
        return file

    @contextlib.contextmanager
    def _folder_of(self, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        *parts, last = check_name(name).split("/")
        with self._folder(parts, name, make=make) as folder:
            yield folder, last

    @contextlib.contextmanager
    def _folder(self, parts: Sequence[str], name: str, *, make: bool = False) -> Iterator[int]:
        """A handle of the folder, opened part by part."""
        handle = -1
        try:
            if make:
                self._root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in parts:
                handle = _entered(handle, part, make=make)
            yield handle
        except OSError as error:
            self._explain(error, name)
        finally:
            if handle >= 0:
                os.close(handle)

    def _explain(self, error: OSError, name: str) -> None:
        text = error.strerror or str(error)
        if error.errno == errno.ENOENT:
            raise NotThere(name, self.uri) from error
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
            raise Refused(
                self.uri,
                f"on the way to {name!r} is a link, or a file in place of a folder ({text})",
                "remove it: the store follows no links",
            ) from error
        if error.errno in _DENIED:
            cure = "mount the claim writable for this user (fsGroup)"
            raise Refused(self.uri, f"access to {name!r} is denied ({text})", cure) from error
        if error.errno in _FULL:
            raise StageError(
                Reason.STORE_UNAVAILABLE,
                f"{self.uri}: no space left for {name!r}; enlarge the claim, or remove studies",
            ) from error
        raise NetworkFault(text) from error


def _entered(handle: int, part: str, *, make: bool) -> int:
    """The handle of a folder inside; `handle` is closed when that worked."""
    try:
        inner = os.open(part, _FOLDER, dir_fd=handle)
    except NotADirectoryError:
        if make or stat.S_ISLNK(os.stat(part, dir_fd=handle, follow_symlinks=False).st_mode):
            raise
        raise FileNotFoundError(errno.ENOENT, f"{part} is an object itself") from None
    except FileNotFoundError:
        if not make:
            raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=handle)
        inner = os.open(part, _FOLDER, dir_fd=handle)
    os.close(handle)
    return inner


def _below(folder: int, prefix: str) -> Iterator[ObjectInfo]:
    for base, _, names, handle in os.fwalk(".", dir_fd=folder, follow_symlinks=False):
        inside = base.removeprefix(".").removeprefix("/")
        for name in names:
            if name.startswith("."):
                continue
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                there = os.stat(name, dir_fd=handle, follow_symlinks=False)
                if stat.S_ISREG(there.st_mode):
                    yield ObjectInfo(
                        f"{prefix}{inside}/{name}" if inside else f"{prefix}{name}", there.st_size
                    )


def _chunks(source: BinaryIO, name: str, limit_bytes: int) -> Iterator[bytes]:
    received = 0
    while chunk := _read(source):
        received += len(chunk)
        if received > limit_bytes:  # it grew meanwhile
            raise TooLarge(name, limit_bytes)
        yield chunk


def _read(source: BinaryIO) -> bytes:
    try:
        return source.read(_CHUNK)
    except OSError as error:
        raise NetworkFault(error.strerror or str(error)) from error
