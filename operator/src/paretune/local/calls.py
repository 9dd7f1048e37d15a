"""One call of a stage, from its start to its result, with someone who watches."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from paretune_contract.failure import Reason
from paretune_contract.stages import Result

from .workers import Call, Stages

TAIL_LINES = 20
"""Enough for the traceback that a crashed interpreter leaves."""
_LOOK_SECONDS = 0.25
_EPOCH = "epoch "
"""Trainers say to the log how each epoch went, in a line that begins so."""
_UNEXPLAINED = frozenset({Reason.CRASHED, Reason.OUT_OF_MEMORY, Reason.INTERNAL})


class StageFailed(Exception):
    """A stage could not do it.

    Attributes:
        reason: machine-readable cause.
        message: a sentence for people.
        tail: the last lines of its log, where the sentence alone explains little.
    """

    def __init__(self, reason: Reason, message: str, tail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reason, self.message, self.tail = reason, message, tail


class Watcher:
    """Who is told how it goes. This one listens to nothing."""

    def say(self, sentence: str) -> None:
        """Something that happened once."""

    def working(self, what: str, seconds: float) -> None:
        """What is being done, and for how long so far; several times a second."""


@contextlib.contextmanager
def stages_in(logs: Path, workers_in: Callable[[Path], Stages]) -> Iterator[Stages]:
    """A place where stages run, which ends with the block whatever happens."""
    workers = workers_in(logs)
    try:
        yield workers
    finally:
        workers.close()


def answer(workers: Stages, call: Call, what: str, watcher: Watcher) -> Result:
    """The result of one call, which runs alone.

    Args:
        workers: where it runs; nothing else does.
        call: the request.
        what: what is being done, for people.
        watcher: is told `what`, and of each epoch that a trainer reports.

    Raises:
        StageFailed: when the stage says why there is no result.
    """
    watcher.say(what)
    started, log = time.monotonic(), _Log(call.log)
    workers.submit(call)
    while not (answers := workers.wait(_LOOK_SECONDS)):
        watcher.working(what, time.monotonic() - started)
        _tell_epochs(log, watcher)
    _tell_epochs(log, watcher)
    ((_, result),) = answers
    if result.reason is not None:
        tail = log.last(TAIL_LINES) if result.reason in _UNEXPLAINED else ()
        raise StageFailed(result.reason, result.message, tail)
    return result


def _tell_epochs(log: "_Log", watcher: Watcher) -> None:
    for line in log.new():
        if line.startswith(_EPOCH):
            watcher.say(f"  {line}")


class _Log:
    """A file of lines that grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, path.stat().st_size if path.exists() else 0

    def new(self) -> list[str]:
        """Whole lines that came since the last look."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            found = file.read()
        whole = found[: found.rfind(b"\n") + 1]
        self._at += len(whole)
        return whole.decode(errors="replace").splitlines()

    def last(self, count: int) -> tuple[str, ...]:
        """The last lines of all."""
        if not self._path.exists():
            return ()
        return tuple(self._path.read_text(errors="replace").splitlines()[-count:])
