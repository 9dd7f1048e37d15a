"""Cached steps that travel: an entry of a StepCache as one object of a store, and back.

An object is a tar (ustar) of plain files: `entry.json`, then the entry's files in the order of their names,
called `0`, `1`, and so on, so that no name in it leads anywhere. The same entry always gives the same bytes.

What comes from a store counts only when the entry's key is that of its inputs and each file has its sha256;
anything else counts as not there. That guards against damage and against files outside of the entry. It is no
proof of who made the entry: those who may write to the store are trusted with its contents.
"""

import contextlib
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from .errors import NotThere, TooLarge
from .files import disk_of
from .objects import ObjectStore, check_prefix
from .steps import ENTRY, StepCache

SUFFIX = ".tar"
LIMIT = 4 << 30
_ENTRY_LIMIT = 16 << 20
_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 1 << 20
_HEX = frozenset("0123456789abcdef")


class Damaged(Exception):
    """The object is no packed step."""


def ignore(sentence: str) -> None:
    """Report nothing."""


class RemoteSteps:
    """Steps of a cache that are shared through a store.

    Args:
        cache: where steps are made and used.
        store: where they are kept.
        prefix: of the store's steps, `Store.steps`.
        limit_bytes: of one packed step, in both directions.
        report: is given one sentence for each object that counts as not there because of its content.
    """

    def __init__(
        self,
        cache: StepCache,
        store: ObjectStore,
        prefix: str,
        *,
        limit_bytes: int = LIMIT,
        report: Callable[[str], None] = ignore,
    ) -> None:
        self._cache = cache
        self._store = store
        self._prefix = check_prefix(prefix)
        self._limit = limit_bytes
        self._report = report

    def pull(self, key: str) -> bool:
        """Bring a step into the cache, unless it is there. True when it is there now.

        Raises:
            ValueError: `key` is no key.
            Refused: see `ObjectStore`.
            StageError: STORE_UNAVAILABLE.
        """
        _check_key(key)
        if self._cache.find(key) is not None:
            return True

        def fill(folder: Path) -> None:
            with self._temporary(key) as temporary:
                packed = temporary / f"{key}{SUFFIX}"
                self._store.get(self._name(key), packed, self._limit)
                with packed.open("rb") as file:
                    unpack(file, folder)

        try:
            self._cache.adopt(key, fill)
        except NotThere:
            return False
        except (Damaged, TooLarge, ValueError) as error:
            self._report(f"{self._store.uri}: {self._name(key)} counts as not there: {error}")
            return False
        return True

    def push(self, key: str) -> bool:
        """Upload a step of the cache. False when the store has one of this key already.

        Raises:
            NotThere: the cache has no such step.
            ValueError: `key` is no key.
            TooLarge: packed, it has more bytes than the limit.
            Refused: see `ObjectStore`.
            StageError: STORE_UNAVAILABLE.
        """
        _check_key(key)
        if (folder := self._cache.find(key)) is None:
            raise NotThere(key, str(self._cache.root))
        if self._store.exists(self._name(key)):
            return False
        with self._temporary(key) as temporary:
            packed = temporary / f"{key}{SUFFIX}"
            with disk_of(packed), packed.open("wb") as file:
                pack(folder, file)
            if (size := packed.stat().st_size) > self._limit:
                raise TooLarge(self._name(key), self._limit, size)
            self._store.put(self._name(key), packed)
        return True

    def keys_here(self) -> set[str]:
        """Keys of the steps in the cache."""
        return self._cache.keys()

    def keys_there(self) -> set[str]:
        """Keys of the steps in the store.

        Raises:
            Refused: see `ObjectStore`.
            StageError: STORE_UNAVAILABLE.
        """
        names = (info.name.rsplit("/", 1)[-1] for info in self._store.list(self._prefix))
        return {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and _is_key(name[:-4])}

    @contextlib.contextmanager
    def _temporary(self, key: str) -> Iterator[Path]:
        """A folder on the cache's disk; `StepCache.gc` removes it when this process dies."""
        parent = self._cache.root / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{key}-", dir=parent) as temporary:
            yield Path(temporary)

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{key}{SUFFIX}"


def pack(folder: Path, file: BinaryIO) -> None:
    """Write the entry in `folder` to `file` as a tar."""
    names = sorted(json.loads((folder / ENTRY).read_text())["files"])
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for called, name in [(ENTRY, ENTRY), *((str(number), name) for number, name in enumerate(names))]:
            path = folder / name
            header = tarfile.TarInfo(called)
            header.size = path.stat().st_size
            header.mode = 0o644
            with path.open("rb") as source:
                tar.addfile(header, source)


def unpack(file: BinaryIO, folder: Path) -> None:
    """Write the entry in a tar that anybody may have made to the empty `folder`; digests are the caller's to
    check.

    Headers are read one by one here, because tarfile would follow what they say: links, devices, names of any
    length.

    Raises:
        Damaged: it is no tar of the kind that `pack` writes.
    """
    size = _header(file, ENTRY)
    if size > _ENTRY_LIMIT:
        raise Damaged(f"its {ENTRY} has {size:,} bytes; at most {_ENTRY_LIMIT:,} are read")
    description = b"".join(_content(file, size))
    try:
        names = sorted(json.loads(description)["files"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"its {ENTRY} is damaged: {error!r}") from error
    (folder / ENTRY).write_bytes(description)
    for number, name in enumerate(names):
        target = folder / _inside(name)
        size = _header(file, str(number))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                for chunk in _content(file, size):
                    out.write(chunk)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise Damaged(f"two of its files share the name {name!r}") from error
    if file.read(_BLOCK).strip(b"\0"):
        raise Damaged("it has more files than its entry names")


def _header(file: BinaryIO, name: str) -> int:
    """The size of the file that comes next, which must be a plain one called `name`."""
    try:
        header = tarfile.TarInfo.frombuf(file.read(_BLOCK), "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise Damaged(f"where {name!r} should begin is no header: {error}") from error
    if header.name != name or header.type != tarfile.REGTYPE or header.size < 0:
        raise Damaged(
            f"it has {header.name[:80]!r} of type {header.type!r} in place of the plain file {name!r}"
        )
    return header.size


def _content(file: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise Damaged("it ends in the middle of a file")
        left -= len(chunk)
        yield chunk
    file.read(-size % _BLOCK)


def _inside(name: object) -> Path:
    """A relative path that stays where it is.

    Raises:
        Damaged: it does not.
    """
    if (
        not isinstance(name, str)
        or name == ENTRY
        or len(name) > 1024
        or PurePosixPath(name).is_absolute()
        or any(
            part in ("", ".", "..") or len(part.encode(errors="replace")) > 255 for part in name.split("/")
        )
        or any(character in name for character in "\\\0")
    ):
        raise Damaged(f"its entry names the file {str(name)[:80]!r}")
    return Path(name)


def _is_key(key: str) -> bool:
    return len(key) == 64 and set(key) <= _HEX


def _check_key(key: str) -> None:
    if not _is_key(key):
        raise ValueError(f"{key[:80]!r} is no key of a step; expected 64 hexadecimal digits")
