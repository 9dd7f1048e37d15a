"""Intake in a pod: sources in, the normal form of model and data into the store, and back out of it."""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from paretune_contract.dataset import ArrayInfo, DataInfo, DataRequest, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.stages import IntakeRequest, IntakeResult, Result
from paretune_contract.task import IntakeTask, Task, intake_name
from paretune_store.objects import ObjectStore
from paretune_store.pod.bring import checked, damaged, repeats, write_request
from paretune_store.pod.checked import Unusable, file_of_digest, plain_file
from paretune_store.pod.leave import finished, leave_result
from paretune_store.pod.persistence import Persistence
from paretune_store.pod.place import Place
from paretune_store.pod.results import LIMIT, report, to_json
from paretune_store.stores import open_store

from ..data.faults import DataFault
from ..data.npy import MAX_HEADER
from ..data.verify import digest_found
from .sources import bring, read_by_plugin

MODEL = "model.tflite"
INTAKE = "intake.json"
LABELS = "labels.npy"
_HEADER = MAX_HEADER + 1024
_CRASHES = (Reason.CRASHED, Reason.OUT_OF_MEMORY, Reason.TIMED_OUT)


def fetch_intake(task: Task, part: IntakeTask, place: Place) -> None:
    """Download model and data, unless an earlier attempt was successful."""
    if repeats(task, place, open_store(task.store, place.secrets)):
        return
    sources = place.work / "sources"
    limit = int(IntakeRequest.model_fields["model_limit"].default)
    model = bring(part.model, sources / "model", place, reason=Reason.MODEL_UNREADABLE, limit_bytes=limit)
    uris = {str(model): part.model.uri}
    dataset: dict[Split, DataRequest] = {}
    for split, source in part.dataset.items():
        uri = source.uri
        if not read_by_plugin(source):
            try:
                local = bring(source, sources / split.value, place, reason=Reason.DATA_UNREADABLE)
            except StageError as error:
                raise StageError(error.reason, f"dataset.{split.value}: {error.message}") from error
            uris[str(local)] = uri
            uri = str(local)
        dataset[split] = DataRequest(uri=uri, format=source.format)
    request = IntakeRequest(
        model_uri=str(model),
        dataset=dataset,
        scaling=part.scaling,
        training=part.training,
        metrics=part.metrics,
        layers=part.layers,
        cache=str(place.cache),
    )
    write_request(place, request, uris)


def upload_intake(task: Task, part: IntakeTask, place: Place) -> Result:
    """Put the normal form into the store. A failure is reported and not kept: its cause may be cured."""
    store = open_store(task.store, place.secrets)
    result = finished(task, place)
    if not isinstance(result, IntakeResult) or result.reason is not None or result.model is None:
        if result.reason is None:
            result = Result(reason=Reason.CRASHED, message="the intake found no model and gave no reason")
        elif result.reason in _CRASHES:
            text = f"{part.model.uri}: reading it failed: {result.message}"
            result = result.model_copy(update={"message": text})
        return report(result)
    if place.repeated.exists():
        return report(result, hashlib.sha256(to_json(result)).hexdigest())
    try:
        files = [
            (file_of_digest(place.work, result.model.path, result.model.sha256), MODEL),
            *(pair for info in result.data.values() for pair in _arrays(info, place)),
        ]
    except Unusable as error:
        return Result(reason=Reason.CRASHED, message=f"The intake's result does not match its files: {error}")
    persist = Persistence(place.upload_seconds)
    for path, name in files:
        persist(lambda path=path, name=name: store.put(intake_name(task.store, name), path))  # type: ignore[misc]
    result = _relative(result)
    document = to_json(result)
    persist(lambda: store.put_bytes(intake_name(task.store, INTAKE), document))
    leave_result(task, place, store, result, persist)
    return report(result, hashlib.sha256(document).hexdigest())


def read_intake(task: Task, sha256: str | None, place: Place, store: ObjectStore) -> IntakeResult:
    """What intake left, with paths of this pod; the files themselves are not fetched yet.

    Raises:
        StageError: STORE_UNAVAILABLE when the document is damaged.
        NotThere: when there is none.
    """
    name = intake_name(task.store, INTAKE)
    document = store.get_bytes(name, LIMIT)
    found = hashlib.sha256(document).hexdigest()
    if sha256 is not None and found != sha256:
        raise damaged(store, name, f"its sha256 is {found}, expected {sha256}")
    try:
        result = IntakeResult.model_validate(json.loads(document))
        if result.model is None:
            raise ValueError("it has no model")
        if result != _relative(result):
            raise ValueError("it names other files than intake writes")
        for info in result.data.values():
            for _, array in _all_arrays(info):
                _bytes(array)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(store, name, " ".join(str(error).split())[:500]) from error
    return result.model_copy(
        update={
            "model": result.model.model_copy(update={"path": str(place.intake / MODEL)}),
            "data": {
                split: info.model_copy(update={"folder": str(place.intake / info.folder)})
                for split, info in result.data.items()
            },
        }
    )


def bring_model(task: Task, intake: IntakeResult, store: ObjectStore) -> None:
    """Fetch the float .tflite."""
    assert intake.model is not None
    model = intake.model
    checked(store, intake_name(task.store, MODEL), Path(model.path), model.sha256, model.bytes)


def bring_data(
    task: Task, intake: IntakeResult, splits: Iterable[Split], place: Place, store: ObjectStore
) -> None:
    """Fetch the arrays of some splits.

    Raises:
        StageError: STORE_UNAVAILABLE when they do not have the digest that the intake names.
    """
    for split in sorted(splits):
        info = intake.data[split]
        for _, array in _all_arrays(info):
            relative = f"data/{split.value}/{array.file}"
            limit = _bytes(array) + _HEADER
            store.get(intake_name(task.store, relative), place.intake / relative, limit)
        try:
            found = digest_found(info)
        except DataFault as fault:
            raise damaged(store, intake_name(task.store, f"data/{split.value}"), fault.message) from fault
        if found != info.digest:
            text = f"its digest is {found}, expected {info.digest}"
            raise damaged(store, intake_name(task.store, f"data/{split.value}"), text)


def _arrays(info: DataInfo, place: Place) -> Iterable[tuple[Path, str]]:
    """Files of a split, and their names in the store.

    Raises:
        Unusable: when a file is none, or the digest is another.
    """
    stored = _stored(info)
    for (_, array), (_, target) in zip(_all_arrays(info), _all_arrays(stored), strict=True):
        path = plain_file(place.work, Path(info.folder) / array.file, _bytes(array) + _HEADER)
        yield path, f"{stored.folder}/{target.file}"
    try:
        found = digest_found(info)
    except DataFault as fault:
        raise Unusable(fault.message) from fault
    if found != info.digest:
        raise Unusable(f"dataset.{info.split.value} has the digest {found}, expected {info.digest}")


def _relative(result: IntakeResult) -> IntakeResult:
    """The intake with paths relative to its prefix in the store."""
    model = result.model and result.model.model_copy(update={"path": MODEL})
    data = {split: _stored(info.model_copy(update={"split": split})) for split, info in result.data.items()}
    return result.model_copy(update={"model": model, "data": data})


def _stored(info: DataInfo) -> DataInfo:
    """The split as it lies in the store, under names of ours."""
    inputs = {
        name: array.model_copy(update={"file": f"input{n}.npy"})
        for n, (name, array) in enumerate(info.inputs.items())
    }
    labels = info.labels and info.labels.model_copy(update={"file": LABELS})
    return info.model_copy(update={"folder": f"data/{info.split.value}", "inputs": inputs, "labels": labels})


def _all_arrays(info: DataInfo) -> list[tuple[str, ArrayInfo]]:
    return [*info.inputs.items(), *([("y", info.labels)] if info.labels is not None else [])]


def _bytes(array: ArrayInfo) -> int:
    return math.prod(array.shape) * np.dtype(array.dtype).itemsize
