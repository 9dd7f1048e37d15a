"""Locks between processes that the kernel gives back when their holder dies."""

import contextlib
import fcntl
import os
from pathlib import Path


class FileLock:
    """An flock on a file that may be removed by the one who holds it exclusively.

    Each instance has a file description of its own, so it also holds between threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, *, shared: bool = False, blocking: bool = True) -> bool:
        """Take the lock; False when `blocking` is off and someone else has it."""
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        if not blocking:
            operation |= fcntl.LOCK_NB
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(handle, operation)
            except BlockingIOError:
                os.close(handle)
                return False
            except BaseException:
                os.close(handle)
                raise
            if self._still_there(handle):
                self._handle = handle
                return True
            os.close(handle)  # removed while we waited: lock its successor

    def _still_there(self, handle: int) -> bool:
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(handle)
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def release(self, *, remove: bool = False) -> None:
        """Give the lock back. `remove` deletes the file; only for the exclusive holder."""
        if self._handle is None:
            return
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._handle)
        self._handle = None
