"""What the plan is made from: the study, its records, what runs now, and what is free."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..api import OptimizationTrial
from ..api.study import StudySpec
from ..search.objectives import ResolvedObjective

UNLIMITED = 10**9


@dataclass(frozen=True, order=True)
class Work:
    """One stage of one trial. `pool` is for benchmarks; `final` marks the rounds after the search."""

    number: int
    stage: str
    pool: str = ""
    final: bool = False


@dataclass(frozen=True)
class Capacity:
    """What stages may take at once. On one machine cores are scarce, in a cluster a pool's places are.

    Args:
        parallelism: trials that may be active at the same time.
        cores: cores for stages, all of them together.
        compress_cores: cores of one compress or evaluate stage.
        pool_cores: cores of one benchmark, by pool.
        benchmarks: benchmarks at the same time, over all pools: one on a machine.
        places: benchmarks that may still be started on a pool, by pool; absent: as many as there are.
        pools: pool of each device, where several devices share one; absent: each is its own.
        starts: stages that may be started now: none, or a single one to see, while the store does not answer.
    """

    parallelism: int
    cores: int
    compress_cores: int
    pool_cores: Mapping[str, int]
    benchmarks: int = 1
    places: Mapping[str, int] = field(default_factory=dict)
    pools: Mapping[str, str] = field(default_factory=dict)
    starts: int = UNLIMITED

    def place_of(self, work: Work) -> str:
        """The key in `places` that a benchmark takes: its device's pool."""
        return self.pools.get(work.pool, work.pool)

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
