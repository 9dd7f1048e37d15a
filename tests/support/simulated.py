"""A study whose stages are functions of the settings: hundreds of trials in seconds, no processes."""

import hashlib
import random
import threading
from collections.abc import Callable
from pathlib import Path

from paretune.api import OptimizationStudy
from paretune.local.accept import Accepted
from paretune.local.engine import Engine
from paretune.local.workdir import LocalPool, StudyState, WorkDirectory
from paretune.local.workers import Call
from paretune_contract.dataset import ArrayInfo, DataInfo, Split
from paretune_contract.failure import Reason
from paretune_contract.measurement import CODER, Measurement, wilson
from paretune_contract.model import LayerInfo, ModelInfo, SourceFormat, TensorInfo
from paretune_contract.settings import Settings
from paretune_contract.stages import (
    Artifact,
    BenchmarkRequest,
    BenchmarkResult,
    CompressRequest,
    CompressResult,
    EvaluateRequest,
    EvaluateResult,
    Evaluation,
    IntakeResult,
    Result,
)
from paretune_contract.training import Loss, Optimizer, ResolvedTraining

BYTES = {"none": 4.0, "float16": 2.0, "int16x8": 1.05, "dynamic": 1.0, "int8": 1.0, "int4": 0.55}
SPEED = {"none": 1.0, "float16": 1.0, "int16x8": 6.0, "dynamic": 0.7, "int8": 0.5, "int4": 0.55}
DROP = {"none": 0.0, "float16": 0.0, "int16x8": 0.001, "dynamic": 0.002, "int8": 0.004, "int4": 0.03}


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


class SimulatedStages:
    """Stages that answer at once, in an order drawn from `seed`; Killed is raised before answer `kill_at`."""

    def __init__(
        self, seed: int = 0, kill_at: int | None = None, fail: Callable[[Settings], bool] | None = None
    ):
        self.started: list[tuple[int, str, str, bool]] = []
        self._calls: list[Call] = []
        self._random = random.Random(seed)
        self._kill_at, self._answers = kill_at, 0
        self._fail = fail or (lambda settings: False)
        self.settings_of: dict[str, Settings] = {}
        self.evaluated: list[Split] = []

    def submit(self, call: Call) -> None:
        work = call.key
        self.started.append((work.number, work.stage, work.pool, work.final))
        self._calls.append(call)

    def wait(self, seconds: float) -> list[tuple[Call, Result]]:
        if not self._calls:
            return []
        call = self._calls.pop(self._random.randrange(len(self._calls)))
        if self._kill_at is not None and self._answers >= self._kill_at:
            raise Killed
        self._answers += 1
        return [(call, self._result(call))]

    @property
    def busy_cpus(self) -> set[int]:
        return {cpu for call in self._calls for cpu in call.cpus}

    def close(self) -> None:
        self._calls = []

    def _result(self, call: Call) -> Result:
        request = call.request
        if isinstance(request, CompressRequest):
            return self._compress(request)
        if isinstance(request, BenchmarkRequest):
            return self._benchmark(request)
        assert isinstance(request, EvaluateRequest)
        self.evaluated.append(request.data.split)
        return EvaluateResult(metrics={"accuracy": wilson(870, 1000)})

    def _compress(self, request: CompressRequest) -> Result:
        assert Split.TEST not in request.data, "the search must not see test"
        settings = request.settings
        if self._fail(settings):
            return Result(reason=Reason.NO_EFFECT, message="the setting left no trace")
        size, accuracy = simulated_size(settings), simulated_accuracy(settings)
        content = f"{size} {accuracy}"  # equal treatment gives equal bytes
        sha = hashlib.sha256(content.encode()).hexdigest()
        path = Path(request.candidates) / f"{sha}.tflite"
        path.write_text(settings.model_dump_json())
        metrics = {"modelSize": Measurement.exact(size * 1.1), "downloadSize": Measurement.exact(size)}
        evaluation = None
        if all(metrics[k].value <= v for k, v in request.size_limits.items() if k in metrics):
            metrics["accuracy"] = wilson(accuracy * 1000, 1000)
            evaluation = Evaluation(split=Split.EVALUATION, samples=1000, of=1000, seconds=0.1, complete=True)
        return CompressResult(
            artifact=Artifact(path=str(path), sha256=sha, bytes=int(size * 1.1)),
            coder=CODER,
            metrics=metrics,
            evaluation=evaluation,
        )

    def _benchmark(self, request: BenchmarkRequest) -> Result:
        settings = Settings.model_validate_json(Path(request.candidate.path).read_text())
        ratio = SPEED[settings.quantization.scheme.value]
        return BenchmarkResult(
            metrics={
                f"latency/{request.pool}": Measurement(
                    value=ratio * 1e-3, low=ratio * 0.99e-3, high=ratio * 1.01e-3
                ),
                f"latencyRatio/{request.pool}": Measurement(value=ratio, low=ratio * 0.99, high=ratio * 1.01),
                f"peakMemory/{request.pool}": Measurement.exact(50_000),
            }
        )


def simulated_size(settings: Settings) -> float:
    share = BYTES[settings.quantization.scheme.value] / 4
    share *= 1 - 0.7 * settings.sparsity.level
    if settings.sparsity.pattern.value == "2:4":
        share *= 0.65
    if settings.clustering.clusters:
        share *= 0.5 + settings.clustering.clusters / 512
    if settings.rate.ratio:
        share = settings.rate.ratio
    return round(100_000 * share, 3)


def simulated_accuracy(settings: Settings) -> float:
    loss = DROP[settings.quantization.scheme.value] + 0.08 * settings.sparsity.level**3
    if settings.sparsity.pattern.value == "2:4":
        loss += 0.008
    if settings.clustering.clusters:
        loss += 0.08 / settings.clustering.clusters
    if settings.rate.ratio:
        loss += 0.0003 / settings.rate.ratio
    return round(0.9 - loss, 3)


def simulated_intake(folder: Path, test: bool = True) -> IntakeResult:
    """Intake of a small classifier with every split."""
    layers = tuple(
        LayerInfo(
            name=f"conv{i}", operator="CONV_2D", weight_tensor=i, weight_shape=(16, 3, 3, 16), weights=2304,
            macs=10**6,
            trainable=True, prunable=True, clusterable=True, int4=True,
        )
        for i in range(4)
    )  # fmt: skip
    splits = [s for s in Split if test or s is not Split.TEST]
    return IntakeResult(
        model=ModelInfo(
            uri="model.keras", format=SourceFormat.KERAS, source_sha256="0" * 64,
            path=str(folder / "float.tflite"),
            sha256="1" * 64, bytes=100_000,
            inputs=(TensorInfo(name="x", shape=(1, 8, 8, 1), dtype="float32"),),
            outputs=(TensorInfo(name="y", shape=(1, 10), dtype="float32"),), layers=layers, parameters=10_000,
            macs=4 * 10**6,
        ),
        data={
            split: DataInfo(
                split=split, uri=f"{split.value}.npz", folder=str(folder), digest=split.value, samples=1000,
                inputs={"x": ArrayInfo(file="x.npy", shape=(1000, 8, 8, 1), dtype="float32")},
                labels=ArrayInfo(file="y.npy", shape=(1000,), dtype="int64"),
            )
            for split in splits
        },
        training=ResolvedTraining(
            epochs=2, batch_size=32, optimizer=Optimizer.ADAM, learning_rate=1e-3,
            loss=Loss.CATEGORICAL_CROSSENTROPY, distill=0.0,
        ),
    )  # fmt: skip


def simulated_study(trials: int = 24, parallelism: int = 1, **spec: object) -> OptimizationStudy:
    return OptimizationStudy.model_validate(
        {
            "metadata": {"name": "simulated"},
            "spec": {
                "model": {"uri": "model.keras"},
                "dataset": {s: {"uri": f"{s}.npz"} for s in ("train", "calibration", "evaluation", "test")},
                "objectives": [
                    {"metric": "accuracy", "maxDrop": 0.02},
                    {"metric": "downloadSize"},
                    {"metric": "latency"},
                ],
                "search": {"seed": 7},
                "budget": {"trials": trials, "parallelism": parallelism},
                **spec,
            },
        }
    )


def simulated_engine(
    folder: Path,
    stages: SimulatedStages,
    study: OptimizationStudy | None = None,
    stop: threading.Event | None = None,
) -> Engine:
    """An engine on a work directory, accepted anew or going on with what is there."""
    study = study or simulated_study()
    work = WorkDirectory(folder)
    work.create()
    state = work.read_state() or StudyState(uid="uid", seed=7, coder=CODER, pools=(LocalPool(name="cpu"),))
    work.write_state(state)
    accepted = Accepted(study, state, simulated_intake(folder), resumed=False)
    return Engine(accepted, work, work.cache, lambda _: None, stop or threading.Event(), stages)


__all__ = ["Killed", "SimulatedStages", "simulated_engine", "simulated_intake", "simulated_study"]
