"""Results of the stages as a function of the settings, for pods that nobody runs.

The function remembers nothing: what a benchmark needs to know of its candidate is written in the last eight
digits of the candidate's sha256. So any number of processes may answer, in any order, and always the same.
"""

import hashlib
from pathlib import Path

from paretune_contract.dataset import Split
from paretune_contract.failure import Reason
from paretune_contract.measurement import CODER, Measurement, wilson
from paretune_contract.settings import Settings
from paretune_contract.stages import (
    Artifact,
    BenchmarkResult,
    CompressResult,
    Environment,
    EvaluateResult,
    Evaluation,
    Inspection,
    Latency,
    Memory,
    Result,
)
from paretune_contract.summary import summarize
from paretune_contract.task import BenchmarkTask, CompressTask, IntakeTask
from paretune_contract.termination import IntakeReport

from .simulated import SPEED, simulated_accuracy, simulated_intake, simulated_size
from .simulated_node import PodRun

_DIGITS, _UNIT = 8, 1e-6


def function_of_settings(run: PodRun) -> Result:
    """What the pod's stage answers."""
    task = run.task
    if task is None:
        return Result()
    if task.intake is not None:
        return _intake(task.intake)
    if task.compress is not None:
        return _compress(task.compress)
    if task.benchmark is not None:
        return _benchmark(task.benchmark, run.node)
    if task.evaluate is not None:
        return EvaluateResult(
            metrics={"accuracy": wilson(870, 1000)},
            evaluation=Evaluation(split=Split.TEST, samples=1000, of=1000, seconds=0.1, complete=True),
        )
    return Result()


def sha256_of(settings: Settings) -> str:
    """Digest of the candidate that these settings give; equal treatment gives equal bytes."""
    content = f"{simulated_size(settings)} {simulated_accuracy(settings)}"
    speed = round(SPEED[settings.quantization.scheme.value] / _UNIT)
    return hashlib.sha256(content.encode()).hexdigest()[:-_DIGITS] + f"{speed:0{_DIGITS}x}"


def _intake(task: IntakeTask) -> Result:
    intake = simulated_intake(Path("/work"), test=Split.TEST in task.dataset)
    missing = [pattern for pattern in task.layers if not pattern]
    if missing:
        return Result(reason=Reason.LAYER_NOT_FOUND, message="an empty pattern matches no layer")
    return IntakeReport(summary=summarize(intake))


def _compress(task: CompressTask) -> Result:
    size, accuracy = simulated_size(task.settings), simulated_accuracy(task.settings)
    metrics = {"modelSize": Measurement.exact(size * 1.1), "downloadSize": Measurement.exact(size)}
    evaluation = None
    if all(metrics[name].value <= limit for name, limit in task.size_limits.items() if name in metrics):
        metrics["accuracy"] = wilson(accuracy * 1000, 1000)
        evaluation = Evaluation(split=Split.EVALUATION, samples=1000, of=1000, seconds=0.1, complete=True)
    sha = sha256_of(task.settings)
    return CompressResult(
        artifact=Artifact(path=f"{sha}.tflite", sha256=sha, bytes=int(size * 1.1)),
        coder=CODER,
        metrics=metrics,
        evaluation=evaluation,
        inspection=Inspection(
            tensors=(),
            dtypes={"INT8": 9216},
            sparsity=task.settings.sparsity.level,
            inputs=("float32",),
            outputs=("float32",),
        ),
    )


def _benchmark(task: BenchmarkTask, node: str) -> Result:
    speed = int(task.candidate[-_DIGITS:], 16) * _UNIT
    reference = int(task.reference[-_DIGITS:], 16) * _UNIT
    ratio, seconds = speed / reference, speed * 1e-3
    return BenchmarkResult(
        metrics={
            f"latency/{task.device}": Measurement(value=seconds, low=seconds * 0.99, high=seconds * 1.01),
            f"latencyRatio/{task.device}": Measurement(value=ratio, low=ratio * 0.99, high=ratio * 1.01),
            f"peakMemory/{task.device}": Measurement.exact(50_000),
        },
        latency=Latency(
            median=seconds, p10=seconds * 0.9, p90=seconds * 1.2, low=seconds * 0.99, high=seconds * 1.01,
            ratio=ratio, ratio_low=ratio * 0.99, ratio_high=ratio * 1.01, rounds=12,
            inferences=1200, noisy=False,
        ),
        memory=Memory(arena=50_000, process=40_000_000),
        environment=Environment(
            node=node, cpu="simulated", architecture="x86_64", cores=4, runtime=task.runtime,
            threads=task.threads, python="3.11", system="simulated",
        ),
    )  # fmt: skip
