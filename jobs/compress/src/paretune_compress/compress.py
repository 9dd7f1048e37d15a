"""The compress stage: settings in, one candidate out, with all that is known before a device sees it."""

import contextlib
import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from paretune_contract.dataset import DataInfo, Split
from paretune_contract.failure import WORLD_REASONS, Reason, StageError
from paretune_contract.measurement import CODER, DOWNLOAD_SIZE, MODEL_SIZE, Measurement, Metrics
from paretune_contract.settings import Settings
from paretune_contract.stages import Artifact, CompressRequest, CompressResult, Evaluation, Step
from paretune_contract.training import TrainerKind
from paretune_store.known_steps import KnownSteps, Missing
from paretune_store.steps import StepCache

from . import sizes
from .chain import Chain, File
from .inspection import check, inspect
from .quality.stage import evaluate_cached
from .train.from_file import FileTrainer
from .train.port import Trainer
from .train.tfmot.trainer import TfmotTrainer

SIZE_VERSION = 2


def compress(request: CompressRequest) -> CompressResult:
    """Make one candidate: run the chain, inspect the file, size it, evaluate it.

    The settings `{}` give the float .tflite itself. A file above one of `size_limits` is not evaluated; its
    metrics are then the sizes alone, and `message` says so.

    Raises:
        StageError: what a step raises; NO_EFFECT when a setting left no trace in the finished file.
    """
    return compress_with(request, _trainer(request))


def compress_with(request: CompressRequest, trainer: Trainer) -> CompressResult:
    """`compress` with a given way to train."""
    cache = StepCache(Path(request.cache))
    chain = _chain(request, trainer, cache)
    plans = chain.plans(request.settings)
    if request.settings == Settings():
        finished = File(Path(request.model.path), request.model.sha256)
    else:
        finished = chain.run(request.settings, plans)
    steps = chain.steps
    started = time.perf_counter()
    artifact = _keep(finished, Path(request.candidates))
    inspection = inspect(Path(artifact.path), request.model.layers)
    check(request.settings, inspection, plans)
    steps.append(Step(name="inspect", seconds=time.perf_counter() - started))
    metrics, step = _sizes(artifact, cache)
    steps.append(step)
    result = CompressResult(artifact=artifact, coder=CODER, metrics=metrics, inspection=inspection)
    if message := _too_large(metrics, request.size_limits):
        return result.model_copy(update={"steps": tuple(steps), "message": message})
    if not request.metrics:
        return result.model_copy(update={"steps": tuple(steps)})
    data = request.data.get(Split.EVALUATION)
    if data is None:
        raise StageError(Reason.INTERNAL, "the request has metrics, but no data set for evaluation")
    quality, evaluation, step = _evaluated(request, artifact, data, cache)
    return result.model_copy(
        update={
            "metrics": {**metrics, **quality},
            "evaluation": evaluation,
            "steps": (*steps, step),
        }
    )


def splits_to_read(
    request: CompressRequest, cache: KnownSteps, trainer: Trainer | None = None
) -> frozenset[Split]:
    """The splits that `compress` will read, given the steps that are known. Opens no model and no data.

    Args:
        request: as `compress` gets it.
        cache: makes no step.
        trainer: how networks are trained; None: as `compress` does.

    Raises:
        StageError: what `cache` raises while it looks for steps elsewhere.
    """
    evaluation = frozenset({Split.EVALUATION} if request.metrics else ())
    try:
        file, splits = _chain(request, trainer or _trainer(request), cache).known(request.settings)
        if file is None:
            return splits | evaluation
        artifact = Artifact(path=str(file.path), sha256=file.sha256, bytes=file.path.stat().st_size)
        with contextlib.suppress(Missing):
            if _too_large(_sizes(artifact, cache)[0], request.size_limits):
                return frozenset()
        data = request.data.get(Split.EVALUATION)
        if evaluation and data is not None:
            _evaluated(request, artifact, data, cache)
    except Missing:
        return evaluation
    except StageError as error:
        if error.reason in WORLD_REASONS:
            raise
    return frozenset()  # all is known, and be it the failure


def _trainer(request: CompressRequest) -> Trainer:
    tfmot = request.training is not None and request.training.trainer is TrainerKind.TFMOT
    return TfmotTrainer() if tfmot else FileTrainer()


def _chain(request: CompressRequest, trainer: Trainer, cache: StepCache) -> Chain:
    return Chain(
        cache=cache,
        model=request.model,
        data=request.data,
        scaling=request.scaling,
        training=request.training,
        trainer=trainer,
        threads=request.threads,
        seed=request.seed,
    )


def _too_large(metrics: Metrics, limits: Mapping[str, float]) -> str:
    """A sentence when a size is above its limit, else nothing."""
    for name, limit in sorted(limits.items()):
        if name in metrics and metrics[name].value > limit:
            return f"not evaluated: {name} is {metrics[name].value:,.0f} bytes, at most {limit:,.0f} allowed"
    return ""


def _evaluated(
    request: CompressRequest, artifact: Artifact, data: DataInfo, cache: StepCache
) -> tuple[Metrics, Evaluation, Step]:
    return evaluate_cached(
        cache,
        artifact,
        data,
        request.scaling,
        request.metrics,
        reference=request.reference,
        seconds=request.evaluation_seconds,
        threads=request.threads,
    )


def _sizes(artifact: Artifact, cache: StepCache) -> tuple[dict[str, Measurement], Step]:
    """Both sizes. The step keeps the container, which is what travels, beside remembering its size."""

    def produce(folder: Path) -> None:
        sizes.download_size(artifact, folder / sizes.CONTAINER)

    done = cache.run("size", SIZE_VERSION, {"artifact": artifact.sha256, "coder": CODER}, produce)
    coded = (done.folder / sizes.CONTAINER).stat().st_size
    metrics = {
        MODEL_SIZE: Measurement.exact(float(artifact.bytes)),
        DOWNLOAD_SIZE: Measurement.exact(float(coded)),
    }
    return metrics, Step(name="size", seconds=done.seconds, cached=done.cached, spared=done.spared)


def _keep(file: File, folder: Path) -> Artifact:
    """Put the finished file beside the other candidates, named by its content; whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{file.sha256}.tflite"
    if not target.exists():
        temporary = folder / f".{file.sha256}.{uuid.uuid4().hex[:8]}.part"
        try:
            shutil.copyfile(file.path, temporary)
            temporary.replace(target)
        except FileNotFoundError as error:
            raise StageError(Reason.MODEL_UNREADABLE, f"{file.path} is gone") from error
        finally:
            temporary.unlink(missing_ok=True)
    return Artifact(path=str(target), sha256=file.sha256, bytes=target.stat().st_size)
