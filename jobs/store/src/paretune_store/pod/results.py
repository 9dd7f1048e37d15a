"""Results of stages as files, and as objects of the store."""

import json
from pathlib import Path
from typing import Any

from paretune_contract.failure import Reason
from paretune_contract.serving import result_of
from paretune_contract.stages import CompressResult, IntakeResult, Result
from paretune_contract.summary import summarize
from paretune_contract.task import Task, candidate_name, result_name
from paretune_contract.termination import IntakeReport, to_message

from ..errors import NotThere, TooLarge
from ..files import atomic_write
from ..objects import ObjectStore
from .checked import Unusable, plain_file
from .container import say
from .place import Place

LIMIT = 64 << 20
"""Largest result in bytes; a model of a thousand layers has one."""


def write_result(place: Place, result: Result) -> None:
    """Put the stage's result to where `upload` finds it."""
    atomic_write(place.result, to_json(result))


def to_json(result: Result) -> bytes:
    """The result in full, equal for equal results."""
    return result.model_dump_json(by_alias=True, exclude_defaults=True).encode() + b"\n"


def parsed(stage: str, plain: Any) -> Result:
    """A result from plain data that anybody may have written; what is no Unicode in it becomes `?`.

    Raises:
        ValueError, AttributeError, RecursionError: when it is none.
    """
    text = json.dumps(plain, ensure_ascii=False).encode(errors="replace")
    return result_of(stage, json.loads(text))


def read_result(task: Task, path: Path) -> Result:
    """The result that the stage left; when it is none, that is a result too."""
    try:
        plain = json.loads(plain_file(path.parent, path.name, LIMIT).read_bytes())
        return parsed(task.stage, plain)
    except (Unusable, ValueError, AttributeError, RecursionError) as error:
        return Result(
            reason=Reason.CRASHED,
            message=f"The stage left no result that can be read: {' '.join(str(error).split())[:500]}",
        )


def earlier_result(task: Task, store: ObjectStore) -> Result | None:
    """The result of an earlier attempt, when all that it speaks of is in the store."""
    name = result_name(task.store, task.name)
    try:
        data = store.get_bytes(name, LIMIT)
        result = parsed(task.stage, json.loads(data))
    except NotThere:
        return None
    except (TooLarge, ValueError, AttributeError, RecursionError) as error:
        say(f"the result {name} in the store is damaged and will be replaced: {str(error)[:300]}")
        return None
    if isinstance(result, CompressResult) and result.artifact is not None:
        candidate = candidate_name(task.store, result.artifact.sha256)
        if not store.exists(candidate):
            say(f"the result {name} in the store names {candidate}, which is gone; it will be made anew")
            return None
    return result


def report(result: Result, intake: str = "") -> Result:
    """The result as a termination message carries it.

    Args:
        result: of a stage.
        intake: sha256 (hex) of intake.json, for an intake that succeeded.
    """
    if isinstance(result, IntakeResult) and result.reason is None:
        result = IntakeReport(
            summary=summarize(result),
            intake=intake,
            message=result.message,
            steps=result.steps,
            seconds=result.seconds,
        )
    try:
        to_message(result)
    except ValueError as error:
        return Result(reason=Reason.INTERNAL, message=str(error))
    return result
