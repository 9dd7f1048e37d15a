"""How long a study will take, roughly: before it runs there is nothing to measure."""

from dataclasses import dataclass

from paretune_contract.dataset import Split
from paretune_contract.summary import IntakeSummary

from ..api.study import StudySpec
from .observed import Capacity

TRAINING_RATE = 2.0e10
"""Multiply-accumulates a second and core, forward and backward counted as three; small networks."""
STEP_SECONDS = 0.003
INFERENCE_RATE = 2.0e9
FIXED_SECONDS = 1.5
START_SECONDS = 12.0
TRAINED_SHARE = 0.4
"""Share of trials that fine-tune anew; the others do not train, or find the network in the cache."""
BENCHMARK_SHARE = 0.6
"""Share of the benchmark's time limit that a candidate takes on a quiet machine."""


@dataclass(frozen=True)
class Estimate:
    """Seconds: of one fine-tuning, one evaluation, one benchmark over all pools, and the whole study."""

    training: float
    evaluation: float
    benchmark: float
    study: float


def estimate(spec: StudySpec, intake: IntakeSummary, capacity: Capacity, searched_pools: int) -> Estimate:
    """A study's time from the model's multiply-accumulates and the data's samples."""
    macs = intake.model.macs
    training = 0.0
    if intake.training is not None and Split.TRAIN in intake.data:
        t = intake.training
        samples = intake.data[Split.TRAIN].samples
        epoch = (
            3 * macs * samples / (TRAINING_RATE * capacity.compress_cores)
            + samples / t.batch_size * STEP_SECONDS
        )
        training = t.epochs * epoch
    evaluation = intake.data[Split.EVALUATION].samples * (
        macs / INFERENCE_RATE / capacity.compress_cores + 2e-5
    )
    evaluation = min(evaluation, spec.evaluation.seconds)
    benchmark = spec.benchmark.seconds * BENCHMARK_SHARE * searched_pools
    one = FIXED_SECONDS + evaluation + training * TRAINED_SHARE + benchmark
    final = 5 * spec.benchmark.seconds * BENCHMARK_SHARE * max(1, len(capacity.pool_cores))
    start = START_SECONDS if training else 2.0
    return Estimate(
        training, evaluation, benchmark, start + spec.budget.trials * one / capacity.parallelism + final
    )
