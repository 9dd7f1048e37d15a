"""A recipe followed on this machine: intake and compress in processes of their own, as a study runs them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paretune_contract.dataset import Split
from paretune_contract.failure import Reason
from paretune_contract.model import ModelInfo
from paretune_contract.settings import Settings
from paretune_contract.stages import (
    COMPRESS,
    INTAKE,
    Artifact,
    CompressRequest,
    CompressResult,
    IntakeRequest,
    IntakeResult,
)
from paretune_contract.training import ResolvedTraining

from ..search.made_with import MadeWith, made_with
from .accept import INTAKE_SECONDS, versions_here
from .calls import StageFailed, Watcher, answer, stages_in
from .capacity import cores_here
from .recipes import Recipe
from .sources import Sources, needed
from .workdir import WorkDirectory
from .workers import Call, Stages, WorkerPool

PATIENCE_SECONDS = math.inf
"""One file is made, and someone waits for it: they say when it took too long."""


class NotTheSame(Exception):
    """The model is not the one that the recipe's file was made from."""


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        recipe: the settings, and how they were followed before.
        model: URI of the model.
        sources: the data, and how they are read; every part in it is read.
        work: folders for logs and the finished file.
        cache: folder of steps.
        threads: of a stage; None: as many as the recipe's file was made with, as far as there are cores.
        same_only: go no further with another model than the recipe's.
    """

    recipe: Recipe
    model: str
    sources: Sources
    work: WorkDirectory
    cache: Path
    threads: int | None = None
    same_only: bool = False


@dataclass(frozen=True)
class Applied:
    """What came of a recipe.

    Attributes:
        model: the normalized model.
        result: the candidate, with its file in the job's work directory.
        float_model: the same of the untouched model; None where nothing was evaluated.
        same_model: whether the model is the one of the recipe; None where that is not recorded.
        made_with: how the file was made.
        notes: sentences for people, such as an axis that was added.
    """

    model: ModelInfo
    result: CompressResult
    float_model: CompressResult | None
    same_model: bool | None
    made_with: MadeWith
    notes: tuple[str, ...] = ()

    @property
    def artifact(self) -> Artifact:
        """The finished file."""
        assert self.result.artifact is not None
        return self.result.artifact


def follow(job: Job, watcher: Watcher, workers_in: Callable[[Path], Stages] = WorkerPool) -> Applied:
    """Make the file that a recipe gives, and evaluate it where there is data for that.

    Args:
        job: what is to be done.
        watcher: is told how it goes.
        workers_in: where stages run, given a folder for logs.

    Raises:
        StageFailed: when model or data cannot be used, or a step fails.
        NotTheSame: when `job.same_only` and the model is another one.
    """
    with stages_in(job.work.logs, workers_in) as workers:  # its own process, which a hostile file may end
        intake = _intake(job, workers, watcher)
    assert intake.model is not None
    then = job.recipe.made_with
    same = then.model.same(intake.model) if then else None
    if job.same_only and then and not same:
        raise NotTheSame(
            f"{job.model} is not the model of {job.recipe.name}: its sha256 is "
            f"{intake.model.source_sha256[:16]}..., recorded is {then.model.source_sha256[:16]}..."
        )
    known = then if same else None
    request = _compress_request(job, intake, _training(job, intake, known), _threads(job, known))
    with stages_in(job.work.logs, workers_in) as workers:
        result = _compressed(job, request, f"Compressing: {request.settings.sentence()}", workers, watcher)
        float_model = None
        if request.metrics and request.settings != Settings():
            untouched = request.model_copy(update={"settings": Settings()})
            float_model = _compressed(job, untouched, "Evaluating the float model", workers, watcher)
    now = made_with(intake, versions_here(), request.threads)
    now = now.model_copy(update={"training": request.training, "seed": request.seed})
    return Applied(intake.model, result, float_model, same, now, intake.notes)


def _intake(job: Job, workers: Stages, watcher: Watcher) -> IntakeResult:
    sources = job.sources
    request = IntakeRequest(
        model_uri=job.model,
        dataset=dict(sources.data),
        scaling=sources.scaling,
        training=sources.training,
        metrics=sources.metrics,
        layers=tuple(layer.match for layer in job.recipe.settings.layers),
        cache=str(job.cache.absolute()),
    )
    call = Call(None, INTAKE, request, job.work.logs / "intake.log", cores_here(), INTAKE_SECONDS)
    try:
        result = answer(
            workers, call, "Reading model and data" if sources.data else "Reading the model", watcher
        )
    except StageFailed as failed:
        # Intake looks for the layers of a manifest's space; here they are the recipe's.
        message = failed.message.replace("space.layers[", "settings.layers[", 1)
        raise StageFailed(failed.reason, message, failed.tail) from failed
    assert isinstance(result, IntakeResult)
    return result


def _training(job: Job, intake: IntakeResult, known: MadeWith | None) -> ResolvedTraining | None:
    """The recorded training where model and data are the recorded ones, else what intake resolved.

    Raises:
        StageFailed: when the settings train, and the model cannot be.
    """
    found = intake.training
    why = needed(job.recipe.settings).get(Split.TRAIN)
    if found is None and why is not None:
        assert intake.model is not None
        operators = ", ".join(intake.model.untrainable)
        cause = f"no gradient passes through {operators}" if operators else "no layer of it can be trained"
        raise StageFailed(Reason.MODEL_UNSUPPORTED, f"{job.model}: {why} needs fine-tuning, and {cause}")
    if found is None or known is None or known.training is None:
        return found
    digest = intake.data[Split.TRAIN].digest
    return known.training if known.data.get(Split.TRAIN, digest) == digest else found


def _threads(job: Job, known: MadeWith | None) -> int:
    cores = len(cores_here())
    recorded = known.threads if known and known.threads else cores
    return job.threads or min(recorded, cores)


def _compress_request(
    job: Job, intake: IntakeResult, training: ResolvedTraining | None, threads: int
) -> CompressRequest:
    model = intake.model
    assert model is not None
    return CompressRequest(
        settings=job.recipe.settings,
        model=model,
        data=intake.data,
        scaling=intake.scaling,
        training=training,
        metrics=job.sources.metrics if Split.EVALUATION in intake.data else (),
        cache=str(job.cache.absolute()),
        candidates=str(job.work.candidates.absolute()),
        threads=threads,
        evaluation_seconds=job.sources.evaluation_seconds,
        reference=Artifact(path=model.path, sha256=model.sha256, bytes=model.bytes),
    )


def _compressed(
    job: Job, request: CompressRequest, what: str, workers: Stages, watcher: Watcher
) -> CompressResult:
    log = job.work.logs / f"{COMPRESS}.log"
    call = Call(None, COMPRESS, request, log, cores_here()[: request.threads], PATIENCE_SECONDS)
    result = answer(workers, call, what, watcher)
    assert isinstance(result, CompressResult)
    return result
