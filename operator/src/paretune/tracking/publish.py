"""`python -m paretune.tracking.publish`: a front's models to MLflow, from a Job of the study's namespace.

It has the credentials of the study's owner, for the store and for MLflow, which the operator has not. What is
in MLflow already stays as it is, so that any number of attempts end alike.
"""

import argparse
import gzip
import json
import os
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import ModelInfo
from paretune_contract.stages import IntakeResult, Result
from paretune_contract.task import GIVE_UP, TRY_AGAIN, Store, candidate_name, intake_name
from paretune_contract.termination import failed, to_message
from paretune_store.errors import NotThere, Refused
from paretune_store.objects import ObjectStore
from paretune_store.pod.container import leave, say, verdict
from paretune_store.pod.place import Place
from paretune_store.stores import open_store
from pydantic import ValidationError

from ..api import OptimizationTrial
from ..api.publication import FRONT, PUBLISH, RECORDS, RECORDS_VARIABLE, TRACKING_SECRET, Publication
from ..search.front import FrontDocument
from .credentials import environment, hide, read_credentials
from .flavor import DamagedCandidateError
from .redact import redact
from .sync import registered_name, sync
from .view import StudyView
from .wanted import Parts

_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
_INTAKE_LIMIT = 16 << 20
_TERMINATED = 128 + signal.SIGTERM


def publish(publication: Publication, records: Path, place: Place) -> tuple[int, Result]:
    """Register the front's models; exit code, and what the termination message says.

    Args:
        publication: what to publish.
        records: folder with front.json and a file for each trial.
        place: where Secrets are.

    Raises:
        StageError, paretune_store.errors.Refused: see `paretune_store.pod.container.verdict`.
    """
    started = time.monotonic()
    front, trials = read_records(records)
    secrets = _log_in(place)
    objects = open_store(publication.store, place.secrets)
    with tempfile.TemporaryDirectory(prefix="paretune-publish-") as folder:
        artifacts = StoreArtifacts(objects, publication.store, Path(folder), trials)
        view = _view(publication, front, trials, artifacts, _source(objects, publication))
        uri = publication.tracking_uri
        report = sync(view, Path(folder) / "tracking.json", uri, parts=Parts.MODELS)
    if artifacts.failure is not None:
        raise artifacts.failure
    seconds = time.monotonic() - started
    if report.error:
        code = TRY_AGAIN if report.unavailable else GIVE_UP
        reason = Reason.STORE_UNAVAILABLE if report.unavailable else Reason.STEP_FAILED
        message = hide(report.error, secrets)
        return code, Result(reason=reason, message=message, seconds=seconds)
    count = len(view.front.front)
    words = f"the front's {count} models are" if count != 1 else "the front's only model is"
    message = f"{words} in MLflow at {redact(uri)} as {registered_name(view)}"
    return 0, Result(message=message, seconds=seconds)


class StoreArtifacts:
    """Candidates from the store, fetched when they are asked for.

    Attributes:
        failure: why the store gave none; what else is asked for then is in vain.
    """

    def __init__(
        self, objects: ObjectStore, where: Store, folder: Path, trials: Sequence[OptimizationTrial]
    ) -> None:
        self._objects, self._where, self._folder = objects, where, folder
        self._bytes = {t.status.artifact.sha256: t.status.artifact.bytes for t in trials if t.status.artifact}
        self.failure: Exception | None = None

    def candidate(self, sha256: str) -> Path:
        """The file of a candidate; its digest is checked by who uploads it.

        Raises:
            DamagedCandidateError: when the store has none of this size.
            StageError, Refused: when the store is away, or refuses.
        """
        target = self._folder / f"{sha256}.tflite"
        name = candidate_name(self._where, sha256)
        if target.exists():
            return target
        try:
            self._objects.get(name, target, self._bytes[sha256])
        except NotThere as error:
            raise DamagedCandidateError(f"{error}; was it removed from the store?") from error
        except (StageError, Refused) as error:
            self.failure = error
            raise
        return target

    def logs(self, number: int) -> Sequence[Path]:  # noqa: ARG002 - as Artifacts wants it
        """None: a failed trial is no member of a front."""
        return ()


def read_records(folder: Path) -> tuple[FrontDocument, tuple[OptimizationTrial, ...]]:
    """front.json, and the records of trials in number order: JSON or YAML, as they are or as .gz.

    Raises:
        StageError: INTERNAL, naming the file that is missing or not understood.
    """
    front: FrontDocument | None = None
    trials: dict[int, OptimizationTrial] = {}
    paths = [p for p in sorted(folder.glob("*")) if p.is_file() and not p.name.startswith(".")]
    for path in paths:
        try:
            plain = _plain(path)
            if path.name.removesuffix(".gz") == FRONT:
                front = FrontDocument.model_validate(plain)
            else:
                trial = OptimizationTrial.model_validate(plain)
                trials[trial.number] = trial
        except (OSError, EOFError, zlib.error, ValueError, yaml.YAMLError) as error:
            text = " ".join(str(error).split())[:500]
            raise StageError(Reason.INTERNAL, f"{path} is no record: {text}") from error
    if front is None:
        raise StageError(Reason.INTERNAL, f"{folder} has no {FRONT}; expected it beside the trials' records")
    needed = {front.baseline.trial, *(entry.trial for entry in front.front)}
    if lacking := sorted(needed - trials.keys()):
        numbers = ", ".join(map(str, lacking))
        raise StageError(
            Reason.INTERNAL, f"{folder} lacks the records of trials {numbers}, which {FRONT} names"
        )
    return front, tuple(trials[number] for number in sorted(trials))


def _plain(path: Path) -> Any:
    data = path.read_bytes()
    name = path.name
    if name.endswith(".gz"):
        data, name = gzip.decompress(data), name.removesuffix(".gz")
    return json.loads(data) if name.endswith(".json") else yaml.safe_load(data)


def _view(
    publication: Publication,
    front: FrontDocument,
    trials: tuple[OptimizationTrial, ...],
    artifacts: StoreArtifacts,
    source: ModelInfo | None,
) -> StudyView:
    study = publication.study
    names = {"experiment": publication.experiment, "registered_model": publication.registered_model}
    tracking = study.spec.tracking.model_copy(update={k: v for k, v in names.items() if v})
    study = study.model_copy(update={"spec": study.spec.model_copy(update={"tracking": tracking})})
    view = StudyView(
        study=study,
        uid=publication.uid,
        seed=publication.seed,
        state=publication.state,
        trials=trials,
        front=front,
        model=publication.model,
        source=source,
        artifacts=artifacts,
    )
    if not view.ended:
        raise StageError(
            Reason.INTERNAL,
            f"{PUBLISH}: state {publication.state!r} is no end, and nothing is published before one",
        )
    return view


def _source(objects: ObjectStore, publication: Publication) -> ModelInfo | None:
    """The source model with the names of its inputs and outputs; without them the files' own do."""
    name = intake_name(publication.store)
    try:
        return IntakeResult.model_validate_json(objects.get_bytes(name, _INTAKE_LIMIT)).model
    except (NotThere, ValidationError) as error:
        say(f"{objects.uri}: {name} tells no names of inputs and outputs ({type(error).__name__})")
        return None


def _log_in(place: Place) -> tuple[str, ...]:
    """MLflow's credentials into this process's environment; their values, which no message may hold."""
    folder = place.secrets / TRACKING_SECRET
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    if not folder.is_dir():
        return ()
    found = read_credentials(folder)
    wanted = environment(os.environ, found)
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)
    return tuple(value for name, value in found.items() if not name.endswith("USERNAME"))


def read_publication(variables: Mapping[str, str] = os.environ) -> Publication:
    """The publication in the environment.

    Raises:
        StageError: INTERNAL when there is none, or it is not understood.
    """
    text = variables.get(PUBLISH)
    if not text:
        raise StageError(
            Reason.INTERNAL, f"the environment variable {PUBLISH} is not set; expected a publication as JSON"
        )
    try:
        return Publication.model_validate_json(text)
    except ValidationError as error:
        raise StageError(Reason.INTERNAL, f"{PUBLISH} is not understood: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish what the environment says, leave a termination message, and return the exit code."""
    argparse.ArgumentParser(
        prog="python -m paretune.tracking.publish",
        description="Register the models of a study's front at its MLflow server.",
        epilog=f"What to publish is read from the environment variable {PUBLISH} and the folder that "
        f"{RECORDS_VARIABLE} names (default {RECORDS}). Exit codes: 0; {TRY_AGAIN}: another attempt may "
        f"work; {GIVE_UP}: it would end alike. The termination message says why.",
    ).parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)  # the first process of a container is deaf to it otherwise
    place = Place.of()
    try:
        records = Path(os.environ.get(RECORDS_VARIABLE) or RECORDS)
        code, result = publish(read_publication(), records, place)
        message = to_message(result)
    except Exception as error:  # every end has a message
        code, reason, text = verdict(error)
        result = Result(reason=reason, message=text)
        message = failed(reason, text)
    say(f"{result.reason.value}: {result.message}" if result.reason else result.message)
    leave(place, message)
    return code


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
    raise SystemExit(_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
