"""What the plan is made from: the study, its records, what runs now, and what is free."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..api import OptimizationTrial
from ..api.study import StudySpec
from ..search.objectives import ResolvedObjective


@dataclass(frozen=True, order=True)
class Work:
    """One stage of one trial. `pool` is for benchmarks; `final` marks the rounds after the search."""

    number: int
    stage: str
    pool: str = ""
    final: bool = False


@dataclass(frozen=True)
class Capacity:
    """What stages may take at once.

    Args:
        parallelism: trials that may be active at the same time.
        cores: cores for stages, all of them together.
        compress_cores: cores of one compress or evaluate stage.
        pool_cores: cores of one benchmark, by pool.
        benchmarks: benchmarks at the same time, over all pools: one on a machine.
    """

    parallelism: int
    cores: int
    compress_cores: int
    pool_cores: Mapping[str, int]
    benchmarks: int = 1

    def cores_of(self, work: Work) -> int:
        return self.pool_cores[work.pool] if work.pool else self.compress_cores


@dataclass(frozen=True)
class Observed:
    """The world as it is. `elapsed` is the study's active time in seconds."""

    spec: StudySpec
    objectives: tuple[ResolvedObjective, ...]
    pools: tuple[str, ...]
    trials: tuple[OptimizationTrial, ...]
    running: frozenset[Work]
    capacity: Capacity
    elapsed: float = 0.0
    exhausted: bool = False

    @property
    def baseline(self) -> OptimizationTrial | None:
        return self.trials[0] if self.trials else None
