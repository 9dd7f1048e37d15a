"""The containers of a benchmark: `python -m paretune_benchmark.pod fetch|stage|upload`."""

import sys

from paretune_contract.failure import Reason, StageError
from paretune_contract.stages import BenchmarkRequest, Result
from paretune_contract.task import BenchmarkTask, Task
from paretune_store.pod.bring import candidate, repeats, write_request
from paretune_store.pod.container import main
from paretune_store.pod.leave import finished, leave_result
from paretune_store.pod.persistence import Persistence
from paretune_store.pod.place import Place
from paretune_store.pod.results import report
from paretune_store.pod.stage import stage
from paretune_store.stores import open_store


def fetch(task: Task, place: Place) -> None:
    """Bring candidate and reference to the work folder."""
    part = _part(task)
    store = open_store(task.store, place.secrets)
    if repeats(task, place, store):
        return
    request = BenchmarkRequest(
        candidate=candidate(place, store, task.store, part.candidate),
        reference=candidate(place, store, task.store, part.reference),
        pool=part.device,
        runtime=part.runtime,
        threads=part.threads,
        half_width=part.half_width,
        max_seconds=part.max_seconds,
        seed=part.seed,
    )
    write_request(place, request)


def run(task: Task, place: Place) -> None:
    """Measure in a process of its own; exits 0 whatever the result."""
    _part(task)
    stage(task, place, "paretune_benchmark")


def upload(task: Task, place: Place) -> Result:
    """Put log and result into the store, and the result into the termination message."""
    _part(task)
    result = finished(task, place)
    if not place.repeated.exists():
        store = open_store(task.store, place.secrets)
        leave_result(task, place, store, result, Persistence(place.upload_seconds))
    return report(result)


def _part(task: Task) -> BenchmarkTask:
    if task.benchmark is None:
        raise StageError(
            Reason.INTERNAL, f"the task is one of {task.stage}; paretune_benchmark does benchmark"
        )
    return task.benchmark


if __name__ == "__main__":
    commands = {"fetch": fetch, "stage": run, "upload": upload}
    sys.exit(main("python -m paretune_benchmark.pod", "A container of a benchmark pod.", commands))
