"""Compress and evaluate in a pod: known steps are fetched, and only the data that is left to read."""

from paretune_contract.dataset import Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.stages import CompressRequest, CompressResult, EvaluateRequest, Result
from paretune_contract.task import (
    CompressTask,
    EvaluateTask,
    Task,
    candidate_name,
    step_name,
    wrote_step_name,
)
from paretune_store.errors import NotThere, Refused
from paretune_store.known_steps import KnownSteps
from paretune_store.objects import ObjectStore
from paretune_store.pod.bring import CANDIDATE_LIMIT, candidate, repeats, write_request
from paretune_store.pod.checked import Unusable, file_of_digest, plain_file
from paretune_store.pod.container import say
from paretune_store.pod.leave import finished, leave_result
from paretune_store.pod.persistence import Persistence
from paretune_store.pod.place import Place
from paretune_store.pod.results import report
from paretune_store.remote_steps import RemoteSteps
from paretune_store.steps import StepCache
from paretune_store.stores import open_store

from ..compress import splits_to_read
from ..quality.stage import evaluate_known
from .intake import bring_data, bring_model, read_intake

MOST_STEPS = 32
"""A candidate has nine steps at most; a stage that left many more did not make them for it."""


def fetch_compress(task: Task, part: CompressTask, place: Place) -> None:
    """Bring the model, the steps that are known, and the data for those that are not."""
    store = open_store(task.store, place.secrets)
    if repeats(task, place, store):
        return
    intake = read_intake(task, part.intake, place, store)
    assert intake.model is not None
    bring_model(task, intake, store)
    reference = candidate(place, store, task.store, part.reference) if part.reference else None
    request = CompressRequest(
        settings=part.settings,
        model=intake.model,
        data={split: info for split, info in intake.data.items() if split is not Split.TEST},
        scaling=intake.scaling,
        training=intake.training,
        metrics=part.metrics,
        size_limits=part.size_limits,
        cache=str(place.cache),
        candidates=str(place.candidates),
        threads=part.threads,
        evaluation_seconds=part.evaluation_seconds,
        reference=reference,
    )
    cache = _known_steps(task, place, store)
    splits = splits_to_read(request, cache)
    say(f"to be read: {', '.join(sorted(splits)) or 'no data, all steps are known'}")
    bring_data(task, intake, splits & request.data.keys(), place, store)
    write_request(place, request)


def fetch_evaluate(task: Task, part: EvaluateTask, place: Place) -> None:
    """Bring candidate, reference and test data, unless the evaluation is known."""
    store = open_store(task.store, place.secrets)
    if repeats(task, place, store):
        return
    intake = read_intake(task, part.intake, place, store)
    data = intake.data.get(Split.TEST)
    if data is None:
        raise StageError(Reason.INTERNAL, f"{task.name}: the study has no dataset.test")
    request = EvaluateRequest(
        artifact=candidate(place, store, task.store, part.candidate),
        data=data,
        scaling=intake.scaling,
        metrics=part.metrics,
        reference=candidate(place, store, task.store, part.reference),
        threads=part.threads,
        evaluation_seconds=part.evaluation_seconds,
        cache=str(place.cache),
    )
    if not evaluate_known(request, _known_steps(task, place, store)):
        bring_data(task, intake, [Split.TEST], place, store)
    write_request(place, request)


def upload_compress(task: Task, place: Place) -> Result:
    """Put candidate, new steps, log and result into the store."""
    store = open_store(task.store, place.secrets)
    persist = Persistence(place.upload_seconds)
    result = finished(task, place)
    if place.repeated.exists():
        return report(result)
    if isinstance(result, CompressResult) and result.reason is None:
        result = _put_candidate(task, place, store, result, persist)
    _push_steps(task, place, store)
    leave_result(task, place, store, result, persist)
    return report(result)


def upload_evaluate(task: Task, place: Place) -> Result:
    """Put new steps, log and result into the store."""
    store = open_store(task.store, place.secrets)
    result = finished(task, place)
    if place.repeated.exists():
        return report(result)
    _push_steps(task, place, store)
    leave_result(task, place, store, result, Persistence(place.upload_seconds))
    return report(result)


def _known_steps(task: Task, place: Place, store: ObjectStore) -> KnownSteps:
    # The folder is the pod's own, so a cache that pulls and one that is walked may be two objects.
    remote = RemoteSteps(StepCache(place.cache), store, task.store.steps, report=say)
    return KnownSteps(place.cache, remote.pull)


def _put_candidate(
    task: Task, place: Place, store: ObjectStore, result: CompressResult, persist: Persistence
) -> Result:
    artifact = result.artifact
    try:
        if artifact is None:
            raise Unusable("it names no file")
        path = plain_file(place.candidates, artifact.path, CANDIDATE_LIMIT)
        path = file_of_digest(place.work, path, artifact.sha256)
        if path.stat().st_size != artifact.bytes:
            raise Unusable(f"{path} has {path.stat().st_size:,} bytes, expected {artifact.bytes:,}")
    except Unusable as error:
        return Result(reason=Reason.CRASHED, message=f"The stage's result does not match its files: {error}")
    name = candidate_name(task.store, artifact.sha256)
    persist(lambda: store.put(name, path))
    return result.model_copy(update={"artifact": artifact.model_copy(update={"path": name})})


def _push_steps(task: Task, place: Place, store: ObjectStore) -> None:
    """Leave the steps that are new for others. Nothing depends on it, so nothing is tried twice.

    The mark is put first: a step without one would outlive the purge of its study.
    """
    remote = RemoteSteps(StepCache(place.cache), store, task.store.steps, report=say)
    try:
        keys = sorted(_plain_entries(place, remote.keys_here()))
        if len(keys) > MOST_STEPS:
            say(f"{len(keys)} steps were found, at most {MOST_STEPS} are expected; none is kept")
            return
        for key in keys:
            if not store.exists(step_name(task.store, key)):
                store.put_bytes(wrote_step_name(task.store, key), b"1\n")
                remote.push(key)
    except (StageError, Refused, NotThere, OSError, ValueError) as error:
        say(f"not all steps were kept for other trials: {error}")


def _plain_entries(place: Place, keys: set[str]) -> set[str]:
    """Entries that are folders of plain files: a link in one could lead to a Secret."""
    found = set()
    for key in keys:
        folder = place.cache / "steps" / key[:2] / key
        try:
            for path in (folder, *folder.rglob("*")):
                if path.is_symlink() or not path.is_dir():
                    plain_file(place.work, path)
            if not folder.resolve().is_relative_to(place.work.resolve() / "cache"):
                raise Unusable(f"{folder} is a link")
        except Unusable as error:
            say(f"step {key} is not kept: {error}")
            continue
        found.add(key)
    return found
