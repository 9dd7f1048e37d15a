"""Steps that are done once: a folder of files, named by the digest of what went in.

An entry is written elsewhere, synced and renamed, so that it is there whole or not at all, and every read
compares the files with their sha256. Equal steps of several processes wait for the first one.
"""

import contextlib
import datetime
import errno
import hashlib
import json
import math
import os
import shutil
import time
import uuid
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from paretune_contract.failure import CANDIDATE_REASONS, Reason, StageError

from .files import folder_bytes, relative_files, sha256_file, sync_file, sync_folder
from .locks import FileLock

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"

ENTRY = "entry.json"
CACHED_REASONS = CANDIDATE_REASONS - {Reason.INTERNAL, Reason.TIMED_OUT, Reason.OUT_OF_MEMORY}
"""Failures that follow from the inputs alone. Time and memory depend on the day, a fault of ours on us."""


@dataclass(frozen=True)
class CachedStep:
    """A finished step.

    Attributes:
        folder: where its files are; read only.
        key: sha256 (hex) of name, version and inputs.
        cached: whether it had been done before.
        seconds: what this call took.
        spared: what it took to make the step, when this call did not have to.
    """

    folder: Path
    key: str
    cached: bool
    seconds: float
    spared: float = 0.0


@dataclass(frozen=True)
class GcReport:
    """What a clean-up did; sizes in bytes."""

    removed: int
    freed: int
    kept_bytes: int


def step_key(name: str, version: int, inputs: Mapping[str, JSON]) -> str:
    """sha256 (hex) of the canonical JSON of a step's name, version and inputs.

    Raises:
        ValueError: when an input is NaN or infinite.
        TypeError: when an input is no JSON.
    """
    document = {"name": name, "version": version, "inputs": inputs}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class StepCache:
    """Content-addressed steps in one folder, shared by processes.

    Steps that this object has handed out are in use until `close` or its end, and no clean-up removes them.

    Args:
        root: the cache's folder; made when it is missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._used: dict[str, FileLock] = {}
        self._finalizer = weakref.finalize(self, _release_all, self._used)

    def run(
        self,
        name: str,
        version: int,
        inputs: Mapping[str, JSON],
        produce: Callable[[Path], None],
    ) -> CachedStep:
        """The files of a step, made by `produce(folder)` unless they are there already.

        Args:
            name: the step's name.
            version: raised whenever `produce` would write something else for the same inputs.
            inputs: everything that the result depends on.
            produce: writes files, in subfolders too, below the empty folder that it is given.

        Raises:
            StageError: what `produce` raised, now or in an earlier run with a reason of CACHED_REASONS;
                StoreUnavailable when the disk is full.
        """
        started = time.perf_counter()
        key = step_key(name, version, inputs)
        self._use(key)
        if (entry := self._read(key)) is not None:
            return self._hand_out(key, entry, cached=True, started=started)
        making = FileLock(self._lock_path(key, "make"))
        making.acquire()
        try:
            if (entry := self._read(key)) is not None:
                return self._hand_out(key, entry, cached=True, started=started)
            entry = self._make(key, {"name": name, "version": version, "inputs": inputs}, produce)
        finally:
            making.release()
        return self._hand_out(key, entry, cached=False, started=started)

    def find(self, key: str) -> Path | None:
        """The folder of the entry `key`, whole and in use from now on, or None."""
        self._use(key)
        return self._folder(key) if self._read(key) is not None else None

    def adopt(self, key: str, fill: Callable[[Path], None]) -> Path:
        """The folder of the entry `key`, which `fill(folder)` brings from elsewhere unless it is there.

        Args:
            key: of the entry.
            fill: writes the entry's files, ENTRY among them, below the empty folder that it is given.

        Raises:
            ValueError: what `fill` wrote is not the entry `key`, or not whole; nothing is kept of it.
            StageError: StoreUnavailable when the disk is full.
        """
        self._use(key)
        making = FileLock(self._lock_path(key, "make"))
        making.acquire()
        try:
            if self._read(key) is None:
                with self._new(key, key) as temporary:
                    fill(temporary)
                    _check_adopted(temporary, key)
        finally:
            making.release()
        return self._folder(key)

    def keys(self) -> set[str]:
        """Keys of all entries."""
        return {folder.name for folder in self._entries()}

    def close(self) -> None:
        """Steps handed out so far are no longer in use."""
        _release_all(self._used)

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(folder_bytes(folder) for folder in self._entries())

    def keys_of(self, paths: Iterable[Path | str]) -> set[str]:
        """Keys of the entries that the given paths lie in, for `gc`'s `keep`."""
        steps = self.root / "steps"
        return {
            path.relative_to(steps).parts[1]
            for path in map(Path, paths)
            if path.is_relative_to(steps) and len(path.relative_to(steps).parts) > 1
        }

    def gc(self, max_bytes: int, keep: Collection[str] = frozenset()) -> GcReport:
        """Remove the entries not used for the longest time until at most `max_bytes` are left.

        What dead writers left behind goes too. Entries in use and those in `keep` stay, whatever the size.

        Args:
            max_bytes: bound on the bytes of all entries.
            keep: keys of entries to leave alone.
        """
        self._remove_leftovers()
        sizes = {folder: folder_bytes(folder) for folder in self._entries()}
        total, removed, freed = sum(sizes.values()), 0, 0
        for folder in sorted(sizes, key=_last_use):
            if total - freed <= max_bytes:
                break
            if folder.name not in keep and self._remove(folder):
                removed, freed = removed + 1, freed + sizes[folder]
        return GcReport(removed=removed, freed=freed, kept_bytes=total - freed)

    # --- one entry ----------------------------------------------------------------------------------------

    def _folder(self, key: str) -> Path:
        return self.root / "steps" / key[:2] / key

    def _lock_path(self, key: str, kind: str) -> Path:
        return self.root / "locks" / key[:2] / f"{key}.{kind}"

    def _use(self, key: str) -> None:
        if key not in self._used:
            lock = FileLock(self._lock_path(key, "use"))
            lock.acquire(shared=True)
            if self._used.setdefault(key, lock) is not lock:  # another thread was here first
                lock.release()

    def _read(self, key: str) -> dict[str, Any] | None:
        """The entry when it is whole; a damaged one is put away."""
        folder = self._folder(key)
        if not folder.exists():
            return None
        if (entry := _whole(folder, key)) is None:
            self._put_away(folder)
        return entry

    def _make(self, key: str, identity: dict[str, Any], produce: Callable[[Path], None]) -> dict[str, Any]:
        failure: StageError | None = None
        started = time.perf_counter()
        with self._new(key, identity["name"]) as temporary:
            try:
                produce(temporary)
            except StageError as error:
                if error.reason not in CACHED_REASONS:
                    raise
                failure = error
                shutil.rmtree(temporary)
                temporary.mkdir()
            if (temporary / ENTRY).exists():
                raise ValueError(f"step {identity['name']!r} wrote {ENTRY}, which is the cache's own")
            files = {name: sha256_file(temporary / name) for name in relative_files(temporary)}
            entry = {
                "key": key,
                **identity,
                "seconds": round(time.perf_counter() - started, 6),
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "files": files,
            }
            if failure is not None:
                entry["failure"] = {"reason": failure.reason.value, "message": failure.message}
            (temporary / ENTRY).write_text(json.dumps(entry, sort_keys=True, indent=1) + "\n")
        return entry

    @contextlib.contextmanager
    def _new(self, key: str, name: str) -> Iterator[Path]:
        """A folder that becomes the entry `key` when the block ends; for the holder of the lock `make`."""
        for leftover in self._temporaries(key):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = self.root / "tmp" / f"{key}-{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir(parents=True)
            yield temporary
            sync_folder(temporary)
            folder = self._folder(key)
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(folder)
            sync_file(folder.parent)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StageError(
                    Reason.STORE_UNAVAILABLE,
                    f"no space left for step {name!r} in {self.root}: "
                    "free some, or bound the work directory with --cache-size",
                ) from error
            raise

    def _hand_out(self, key: str, entry: dict[str, Any], *, cached: bool, started: float) -> CachedStep:
        folder = self._folder(key)
        with contextlib.suppress(OSError):  # a cache that may only be read keeps no order of use
            os.utime(folder / ENTRY)
        if failure := entry.get("failure"):
            raise StageError(Reason(failure["reason"]), failure["message"])
        spared = _seconds(entry) if cached else 0.0
        return CachedStep(folder, key, cached, time.perf_counter() - started, spared)

    def _put_away(self, folder: Path) -> None:
        """Take an entry out of sight in one rename, then delete it."""
        trash = self.root / "tmp" / f"{folder.name}-{uuid.uuid4().hex[:8]}"
        trash.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)

    # --- all entries --------------------------------------------------------------------------------------

    def _entries(self) -> Iterator[Path]:
        return (path for path in (self.root / "steps").glob("*/*") if path.is_dir())

    def _temporaries(self, key: str = "") -> Iterator[Path]:
        return (self.root / "tmp").glob(f"{key}*-*")

    def _remove(self, folder: Path) -> bool:
        using = FileLock(self._lock_path(folder.name, "use"))
        if not using.acquire(blocking=False):
            return False
        making = FileLock(self._lock_path(folder.name, "make"))
        free = making.acquire(blocking=False)
        if free:
            self._put_away(folder)
        making.release(remove=free)
        using.release(remove=free)
        return free

    def _remove_leftovers(self) -> None:
        for leftover in self._temporaries():
            making = FileLock(self._lock_path(leftover.name.split("-")[0], "make"))
            if making.acquire(blocking=False):
                shutil.rmtree(leftover, ignore_errors=True)
                making.release()


def _release_all(used: dict[str, FileLock]) -> None:
    while used:
        used.popitem()[1].release()


def _seconds(entry: dict[str, Any]) -> float:
    """What the entry took to make, as far as it says."""
    told = entry.get("seconds")
    return float(told) if isinstance(told, int | float) and 0 <= told < math.inf else 0.0


def _whole(folder: Path, key: str) -> dict[str, Any] | None:
    """The entry in `folder`, when all of it is there as it was written."""
    try:
        entry: dict[str, Any] = json.loads((folder / ENTRY).read_text())
        whole = entry["key"] == key and _files_match(folder, entry["files"])
        if whole and (failure := entry.get("failure")):
            Reason(failure["reason"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return entry if whole else None


def _check_adopted(folder: Path, key: str) -> None:
    if (entry := _whole(folder, key)) is None:
        raise ValueError("it is not whole, or another step's")
    try:
        made_of = step_key(entry["name"], entry["version"], entry["inputs"])
        failure = entry.get("failure")
        said = failure is None or (
            Reason(failure["reason"]) in CACHED_REASONS and isinstance(failure["message"], str)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its description is damaged: {error!r}") from error
    if made_of != key:
        raise ValueError("its name, version and inputs are another step's")
    if not said:
        raise ValueError("it is a failure of a kind that is not kept")


def _files_match(folder: Path, files: Mapping[str, str]) -> bool:
    present = [name for name in relative_files(folder) if name != ENTRY]
    return present == sorted(files) and all(sha256_file(folder / name) == files[name] for name in present)


def _last_use(folder: Path) -> float:
    try:
        return (folder / ENTRY).stat().st_mtime
    except OSError:
        return 0.0
