"""The store after a study's end, and after its deletion."""

import re

from paretune_contract.failure import Reason, StageError
from paretune_contract.stages import Result
from paretune_contract.task import Store, Task, candidate_name, step_name, wrote_step_name

from ..objects import ObjectStore
from ..stores import open_store
from .persistence import Persistence
from .place import Place

_STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_CANDIDATE = re.compile(r"[0-9a-f]{64}\.tflite")
_KEY = re.compile(r"[0-9a-f]{64}")


def retain(task: Task, place: Place) -> Result:
    """Remove the candidates that the task does not name."""
    part = task.retain
    if part is None:
        raise StageError(Reason.INTERNAL, f"retain: the task is one of {task.stage}")
    persist = Persistence(place.upload_seconds)
    store = open_store(task.store, place.secrets)
    kept = {candidate_name(task.store, sha256) for sha256 in part.candidates}
    folder = f"{_study(task.store)}/candidates"
    found = [
        info.name for info in persist(lambda: store.list(folder)) if _CANDIDATE.fullmatch(_last(info.name))
    ]
    removed = [name for name in found if name not in kept]
    for name in removed:
        persist(lambda name=name: store.delete(name))  # type: ignore[misc]
    missing = kept.difference(found)
    gone = f"; {len(missing)} of those to keep are not there" if missing else ""
    return Result(message=f"removed {len(removed)} candidates, kept {len(found) - len(removed)}{gone}")


def purge(task: Task, place: Place) -> Result:
    """Remove everything of a study: its cached steps, then all below its prefix, their list included."""
    if task.purge is None:
        raise StageError(Reason.INTERNAL, f"purge: the task is one of {task.stage}")
    persist = Persistence(place.upload_seconds)
    store = open_store(task.store, place.secrets)
    study = _study(task.store)
    steps = _steps_of(store, task.store, persist)
    for key in steps:
        persist(lambda key=key: store.delete(step_name(task.store, key)))  # type: ignore[misc]
    removed = persist(lambda: store.delete_prefix(study))
    return Result(message=f"removed {removed} objects of the study and {len(steps)} cached steps")


def _steps_of(store: ObjectStore, where: Store, persist: Persistence) -> list[str]:
    marks = persist(lambda: store.list(wrote_step_name(where)))
    return [key for mark in marks if _KEY.fullmatch(key := _last(mark.name))]


def _study(where: Store) -> str:
    """The study's prefix; a shorter one would mean other studies too.

    Raises:
        StageError: INTERNAL when it is no NAMESPACE/UID.
    """
    if not _STUDY.fullmatch(where.study):
        raise StageError(Reason.INTERNAL, f"store.study: {where.study!r}; expected NAMESPACE/UID")
    return where.study


def _last(name: str) -> str:
    return name.rpartition("/")[2]
