"""From the store to the work folder."""

import json
from collections.abc import Mapping
from pathlib import Path

from paretune_contract.base import Document
from paretune_contract.failure import Reason, StageError
from paretune_contract.stages import Artifact
from paretune_contract.task import Store, Task, candidate_name

from ..files import atomic_write, sha256_file
from ..objects import ObjectStore
from .container import say
from .place import Place
from .results import earlier_result, write_result

CANDIDATE_LIMIT = 4 * 2**30
"""Largest finished file in bytes; a .tflite has at most 2 GiB, with buffers behind it more."""


def repeats(task: Task, place: Place, store: ObjectStore) -> bool:
    """Whether an earlier attempt left its result, which this pod then only repeats."""
    result = earlier_result(task, store)
    if result is None:
        return False
    say(f"an earlier attempt of {task.name} left its result in the store; it is repeated")
    write_result(place, result)
    atomic_write(place.repeated, "")
    return True


def write_request(place: Place, request: Document, uris: Mapping[str, str] | None = None) -> None:
    """Put the stage's request to where `stage` finds it, with the URIs of what was downloaded."""
    if uris:
        atomic_write(place.uris, json.dumps(dict(uris), sort_keys=True))
    atomic_write(place.request, request.model_dump_json(by_alias=True))


def checked(store: ObjectStore, name: str, target: Path, sha256: str, limit_bytes: int) -> Path:
    """An object whose sha256 (hex) is known, as the file `target`.

    Raises:
        StageError: STORE_UNAVAILABLE when it came with another digest.
        NotThere, TooLarge: see ObjectStore.
    """
    store.get(name, target, limit_bytes)
    found = sha256_file(target)
    if found != sha256:
        target.unlink()
        raise damaged(store, name, f"its sha256 is {found}, expected {sha256}")
    return target


def damaged(store: ObjectStore, name: str, why: str) -> StageError:
    """An object is not what was put there."""
    return StageError(Reason.STORE_UNAVAILABLE, f"{store.uri}: the object {name} is damaged: {why}")


def candidate(place: Place, store: ObjectStore, where: Store, sha256: str) -> Artifact:
    """A finished file."""
    target = place.candidates / f"{sha256}.tflite"
    checked(store, candidate_name(where, sha256), target, sha256, CANDIDATE_LIMIT)
    return Artifact(path=str(target), sha256=sha256, bytes=target.stat().st_size)
