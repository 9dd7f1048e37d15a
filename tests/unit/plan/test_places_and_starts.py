"""What a cluster's capacity lets start: places of a pool, and starts while the store does not answer."""

from typing import Any

import pytest
from paretune.api import OptimizationTrial, State
from paretune.plan.actions import Ask, Run
from paretune.plan.decide import decide
from paretune.plan.observed import UNLIMITED, Capacity, Observed, Work
from paretune.search.objectives import resolve
from paretune_contract.settings import Quantization, Scheme, Settings
from paretune_contract.stages import BENCHMARK, COMPRESS
from unit.search.toy_study import record, spec

OBJECTIVES = (
    {"metric": "accuracy"},
    {"metric": "latency", "device": "pi"},
    {"metric": "latency", "device": "coral"},
)
SCHEMES = (Scheme.INT8, Scheme.FLOAT16, Scheme.DYNAMIC)


def capacity(**fields: Any) -> Capacity:
    pools = {"pi": 1, "coral": 1}
    return Capacity(
        **{
            "parallelism": 3, "cores": UNLIMITED, "compress_cores": 1, "pool_cores": pools,
            "benchmarks": UNLIMITED, **fields,
        }
    )  # fmt: skip


def trial(number: int, state: State = State.BENCHMARKING, made: bool = True) -> OptimizationTrial:
    settings = Settings(quantization=Quantization(scheme=SCHEMES[number - 1])) if number else Settings()
    found = record(number, settings, state=state)
    return (
        found
        if made
        else found.model_copy(update={"status": found.status.model_copy(update={"artifact": None})})
    )


def observed(trials: list[OptimizationTrial], running: set[Work] | None = None, **fields: Any) -> Observed:
    manifest = spec(OBJECTIVES, devices=[{"name": "pi", "pool": "a"}, {"name": "coral", "pool": "b"}])
    return Observed(
        spec=manifest,
        objectives=resolve(manifest),
        pools=("pi", "coral"),
        trials=tuple(trials),
        running=frozenset(running or ()),
        capacity=capacity(**fields),
    )


def started(seen: Observed) -> list[Work]:
    return [a.work for a in decide(seen).actions if isinstance(a, Run)]


def asked(seen: Observed) -> bool:
    return any(isinstance(a, Ask) for a in decide(seen).actions)


def search() -> list[OptimizationTrial]:
    """The baseline is done, two candidates are made and one is not."""
    return [trial(0, State.COMPLETE), trial(1), trial(2), trial(3, State.PENDING, made=False)]


ALL = [
    Work(1, BENCHMARK, "coral"),
    Work(1, BENCHMARK, "pi"),
    Work(2, BENCHMARK, "coral"),
    Work(2, BENCHMARK, "pi"),
    Work(3, COMPRESS),
]


def test_without_limits_everything_that_waits_is_started() -> None:
    assert started(observed(search())) == ALL


def test_a_pool_starts_as_many_benchmarks_as_it_has_places_the_lowest_numbers_first() -> None:
    assert started(observed(search(), places={"pi": 1})) == [w for w in ALL if w != Work(2, BENCHMARK, "pi")]
    assert started(observed(search(), places={"pi": 1, "coral": 0})) == [
        Work(1, BENCHMARK, "pi"),
        Work(3, COMPRESS),
    ]


def test_a_full_pool_holds_up_neither_other_pools_nor_compression() -> None:
    found = started(observed(search(), places={"coral": 0}))
    assert found == [Work(1, BENCHMARK, "pi"), Work(2, BENCHMARK, "pi"), Work(3, COMPRESS)]


def test_work_that_runs_takes_no_further_place() -> None:
    running = {Work(1, BENCHMARK, "pi")}
    found = started(observed(search(), running, places={"pi": 1}))
    assert Work(1, BENCHMARK, "pi") not in found
    assert Work(2, BENCHMARK, "pi") in found, "places are those that are left"


def test_while_the_store_does_not_answer_nothing_starts_and_nothing_is_asked() -> None:
    down = observed(search()[:3], starts=0)
    assert started(down) == []
    assert not asked(down)
    assert asked(observed(search()[:3]))


def test_a_single_start_is_for_the_work_that_is_nearest_to_a_result() -> None:
    assert started(observed(search(), starts=1)) == [Work(1, BENCHMARK, "coral")]


def test_a_start_is_not_lost_on_work_that_finds_no_place() -> None:
    found = started(observed(search(), starts=1, places={"coral": 0, "pi": 0}))
    assert found == [Work(3, COMPRESS)]


def test_a_start_is_not_lost_on_work_that_runs() -> None:
    running = {Work(1, BENCHMARK, "coral"), Work(1, BENCHMARK, "pi")}
    assert started(observed(search(), running, starts=1)) == [Work(2, BENCHMARK, "coral")]


@pytest.mark.parametrize("starts", range(7))
def test_never_more_is_started_than_there_are_starts(starts: int) -> None:
    assert started(observed(search(), starts=starts)) == ALL[:starts]


def test_deciding_leaves_the_capacity_as_it_was() -> None:
    places = {"pi": 1, "coral": 1}
    decide(observed(search(), places=places))
    assert places == {"pi": 1, "coral": 1}


def test_rounds_after_the_search_keep_to_places_and_starts_too() -> None:
    done = [trial(n, State.COMPLETE) for n in range(3)]
    over = observed(done, places={"pi": 1, "coral": 0})
    over = Observed(**{**vars(over), "exhausted": True})
    assert started(over) == [Work(0, BENCHMARK, "pi", final=True)]
    none = Observed(**{**vars(over), "capacity": capacity(starts=0)})
    assert started(none) == []
    assert decide(none).phase == "Measuring the front", "it is not over because nothing may start"


def test_devices_that_share_a_pool_share_its_places() -> None:
    shared = {"pi": "shelf", "coral": "shelf"}
    found = started(observed(search(), places={"shelf": 1}, pools=shared))
    assert sum(work.stage == BENCHMARK for work in found) == 1
