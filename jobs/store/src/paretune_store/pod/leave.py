"""From the work folder to the store."""

from collections import deque

from paretune_contract.failure import WORLD_REASONS, StageError
from paretune_contract.stages import Result
from paretune_contract.task import Task, log_name, result_name

from ..objects import ObjectStore
from .checked import Unusable, plain_file
from .child import LINE_BYTES, LINES
from .persistence import Persistence
from .place import Place
from .results import read_result, to_json


def finished(task: Task, place: Place) -> Result:
    """The stage's result.

    Raises:
        StageError: when the stage found no place or no store to work with: no result, another attempt.
    """
    result = read_result(task, place.result)
    if result.reason in WORLD_REASONS:
        assert result.reason is not None
        raise StageError(result.reason, result.message)
    return result


def leave_result(task: Task, place: Place, store: ObjectStore, result: Result, persist: Persistence) -> None:
    """Put log and result into the store; the result comes last, for whoever finds it relies on the rest."""
    log = last_lines(place)
    if log:
        persist(lambda: store.put_bytes(log_name(task.store, task.name), log))
    persist(lambda: store.put_bytes(result_name(task.store, task.name), to_json(result)))


def last_lines(place: Place) -> bytes:
    """The end of what the stage printed."""
    try:
        path = plain_file(place.work, place.log)
    except Unusable:
        return b""
    tail: deque[bytes] = deque(maxlen=LINES)
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES):
            tail.append(line)
    return b"".join(tail)
