"""The container `stage`: performs the request that `fetch` left, and leaves the result for `upload`."""

import json
from typing import Any

from paretune_contract.failure import Reason, StageError
from paretune_contract.stages import IntakeResult, Result
from paretune_contract.task import Task

from .child import perform
from .container import say
from .place import Place
from .results import write_result


def stage(task: Task, place: Place, module: str) -> None:
    """Perform the request with `python -m MODULE`; whatever comes of it is a result, which is written.

    Raises:
        StageError: INTERNAL when there is no request.
    """
    if place.repeated.exists():
        say(f"{task.name} is answered from the store; nothing to do")
        return
    try:
        request: dict[str, Any] = json.loads(place.request.read_bytes())
        uris: dict[str, str] = json.loads(place.uris.read_bytes()) if place.uris.exists() else {}
    except (OSError, ValueError) as error:
        raise StageError(Reason.INTERNAL, f"{place.request}: `fetch` left no request: {error}") from error
    part = getattr(task, task.stage)
    result = perform(module, task.stage, request, place.log, part.threads)
    result = with_uris(result, uris)
    if result.reason is not None:
        say(f"{task.name}: {result.reason.value}: {result.message}")
    write_result(place, result)


def with_uris(result: Result, uris: dict[str, str]) -> Result:
    """The result with the URIs that the user knows in place of where `fetch` put what they name.

    Args:
        result: of a stage.
        uris: local path -> URI.
    """

    def put_back(text: str) -> str:
        for local in sorted(uris, key=len, reverse=True):
            text = text.replace(local, uris[local])
        return text

    steps = tuple(step.model_copy(update={"note": put_back(step.note)}) for step in result.steps)
    result = result.model_copy(update={"message": put_back(result.message), "steps": steps})
    if not isinstance(result, IntakeResult):
        return result
    model = result.model and result.model.model_copy(update={"uri": put_back(result.model.uri)})
    data = {split: info.model_copy(update={"uri": put_back(info.uri)}) for split, info in result.data.items()}
    notes = tuple(map(put_back, result.notes))
    return result.model_copy(update={"model": model, "data": data, "notes": notes})
