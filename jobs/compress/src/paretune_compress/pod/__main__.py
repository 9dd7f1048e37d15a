"""`python -m paretune_compress.pod fetch|stage|upload`."""

import sys

from paretune_contract.failure import Reason, StageError
from paretune_contract.stages import Result
from paretune_contract.task import Task
from paretune_store.pod.container import main
from paretune_store.pod.place import Place
from paretune_store.pod.stage import stage


def fetch(task: Task, place: Place) -> None:
    """Bring inputs, cached steps and the stage's request to the work folder."""
    match task:
        case Task(intake=part) if part is not None:
            from .intake import fetch_intake

            fetch_intake(task, part, place)
        case Task(compress=part) if part is not None:
            from .candidates import fetch_compress

            fetch_compress(task, part, place)
        case Task(evaluate=part) if part is not None:
            from .candidates import fetch_evaluate

            fetch_evaluate(task, part, place)
        case _:
            raise _another(task)


def run(task: Task, place: Place) -> None:
    """Perform the request in a process of its own; exits 0 whatever the result."""
    if task.intake is None and task.compress is None and task.evaluate is None:
        raise _another(task)
    stage(task, place, "paretune_compress")


def upload(task: Task, place: Place) -> Result:
    """Put what came out into the store, and the result in brief into the termination message."""
    match task:
        case Task(intake=part) if part is not None:
            from .intake import upload_intake

            return upload_intake(task, part, place)
        case Task(compress=part) if part is not None:
            from .candidates import upload_compress

            return upload_compress(task, place)
        case Task(evaluate=part) if part is not None:
            from .candidates import upload_evaluate

            return upload_evaluate(task, place)
    raise _another(task)


def _another(task: Task) -> StageError:
    return StageError(
        Reason.INTERNAL,
        f"the task is one of {task.stage}; paretune_compress does intake, compress and evaluate",
    )


if __name__ == "__main__":
    about = "A container of an intake, compress or evaluate pod."
    commands = {"fetch": fetch, "stage": run, "upload": upload}
    sys.exit(main("python -m paretune_compress.pod", about, commands))
