"""Verdicts on trials, and the end of the search."""

import pytest
from paretune.api import Ask, State
from paretune.api.trial import PoolMeasurement
from paretune.search import gates
from paretune.search.objectives import resolve
from paretune_contract.failure import Reason
from paretune_contract.settings import Settings
from unit.search.toy_study import record, spec, values

MANIFEST = spec(
    [
        {"metric": "accuracy", "maxDrop": 0.01},
        {"metric": "downloadSize", "atMost": "50kB", "maxRatio": 0.4},
        {"metric": "latency", "atMost": "20ms"},
    ]
)
OBJECTIVES = resolve(MANIFEST)
INT8 = Settings.model_validate({"quantization": {"scheme": "int8"}})


def trial(number=5, pools=(), origin="sampler", settings=INT8, **metrics):
    made = record(number, settings, Ask(seed=0, seen="", origin=origin), State.BENCHMARKING)
    status = made.status.model_copy(
        update={"metrics": values(**metrics), "pools": {p: PoolMeasurement() for p in pools}}
    )
    return made.model_copy(update={"status": status})


BASELINE = trial(0, ["cpu"], "baseline", Settings(), accuracy=0.88, downloadSize=100_000, latency__cpu=0.01)


def test_the_tightest_bound_limits_the_size():
    assert gates.size_limits(OBJECTIVES, BASELINE.status.metrics) == {"downloadSize": 40_000}
    assert gates.size_limits(OBJECTIVES, None) == {"downloadSize": 50_000}
    assert gates.size_limits(resolve(spec([{"metric": "downloadSize"}])), None) == {}


def test_a_candidate_that_breaks_the_size_bound_takes_no_device():
    found = gates.verdict(OBJECTIVES, trial(downloadSize=45_000), BASELINE, ["cpu"])
    assert found is not None
    assert (found.state, found.reason) == (State.INFEASIBLE, gates.CONSTRAINTS_NOT_MET)
    assert "downloadSize 45,000 B is above 40,000 B" in found.message
    assert "not measured on cpu" in found.message


def test_a_candidate_that_breaks_the_accuracy_bound_takes_no_device():
    found = gates.verdict(OBJECTIVES, trial(accuracy=0.8, downloadSize=30_000), BASELINE, ["cpu"])
    assert found is not None
    assert found.state is State.INFEASIBLE
    assert "accuracy 0.8 is below" in found.message


def test_a_candidate_that_passes_goes_on_to_its_devices():
    assert gates.verdict(OBJECTIVES, trial(accuracy=0.88, downloadSize=30_000), BASELINE, ["cpu"]) is None


def test_a_broken_bound_on_one_device_spares_the_next():
    manifest = spec(
        [{"metric": "latency", "device": "pi", "atMost": "20ms"}, {"metric": "latency", "device": "mcu"}],
        devices=[{"name": "pi"}, {"name": "mcu"}],
    )
    found = gates.verdict(resolve(manifest), trial(pools=["pi"], latency__pi=0.03), BASELINE, ["pi", "mcu"])
    assert found is not None
    assert found.state is State.INFEASIBLE
    assert found.message == "latency/pi 30 ms is above 20 ms; not measured on mcu"


def test_a_candidate_measured_everywhere_is_complete():
    found = gates.verdict(
        OBJECTIVES,
        trial(pools=["cpu"], accuracy=0.88, downloadSize=30_000, latency__cpu=0.005),
        BASELINE,
        ["cpu"],
    )
    assert found is not None
    assert (found.state, found.reason) == (State.COMPLETE, gates.MEASURED)


def test_a_candidate_too_slow_is_infeasible_in_the_end():
    found = gates.verdict(
        OBJECTIVES,
        trial(pools=["cpu"], accuracy=0.88, downloadSize=30_000, latency__cpu=0.03),
        BASELINE,
        ["cpu"],
    )
    assert found is not None
    assert found.state is State.INFEASIBLE


def test_an_objective_without_value_is_a_failure_and_not_a_result():
    found = gates.verdict(OBJECTIVES, trial(pools=["cpu"], accuracy=0.88, downloadSize=3), BASELINE, ["cpu"])
    assert found is not None
    assert found.state is State.FAILED
    assert "latency/cpu" in found.message


def test_the_baseline_is_measured_whatever_it_breaks():
    big = trial(0, (), "baseline", Settings(), accuracy=0.88, downloadSize=100_000)
    assert gates.verdict(OBJECTIVES, big, None, ["cpu"]) is None
    found = gates.verdict(OBJECTIVES, BASELINE, None, ["cpu"])
    assert found is not None
    assert found.state is State.INFEASIBLE


def test_the_reference_is_measured_where_the_baseline_could_not_run():
    poor = trial(1, (), "reference", accuracy=0.5, downloadSize=30_000)
    assert gates.verdict(OBJECTIVES, poor, BASELINE, ["cpu", "stick"]) is None
    found = gates.verdict(OBJECTIVES, poor, BASELINE, ["cpu"])
    assert found is not None
    assert found.state is State.INFEASIBLE


def end(manifest, trials, elapsed=0.0, exhausted=False):
    return gates.budget_end(manifest, trials, elapsed, exhausted, lambda *found: found)


def test_budgets_end_the_search_with_their_reason():
    manifest = spec(budget={"trials": 3, "maxDuration": "1m", "maxFailures": 1})
    crash = [record(n, state=State.FAILED, reason=Reason.CRASHED.value) for n in (1, 2)]
    assert end(manifest, [record(0)]) is None
    assert end(manifest, [record(n) for n in range(3)])[0] == "BudgetSpent"
    assert end(manifest, [record(0)], elapsed=60)[0] == "DurationSpent"
    assert end(manifest, [record(0)], exhausted=True)[0] == "SpaceExhausted"
    assert end(manifest, [record(0), crash[0]]) is None
    assert end(manifest, [record(0), *crash])[::2] == ("TooManyFailures", True)


def test_failures_of_the_world_do_not_count():
    manifest = spec(budget={"maxFailures": 0})
    lost = record(1, state=State.FAILED, reason=Reason.STORE_UNAVAILABLE.value)
    assert end(manifest, [record(0), lost]) is None


def test_the_nearest_misses_come_first():
    base = values(accuracy=0.88, downloadSize=100_000, latency__cpu=0.01)
    trials = [
        record(0, metrics=base),
        record(1, metrics=values(accuracy=0.6, downloadSize=10_000), state=State.INFEASIBLE),
        record(2, metrics=values(accuracy=0.88, downloadSize=41_000), state=State.INFEASIBLE),
        record(3, metrics=values(accuracy=0.88, downloadSize=30_000, latency__cpu=0.01)),
    ]
    misses = gates.nearest_misses(OBJECTIVES, trials)
    assert [m.number for m in misses] == [2, 1, 0]
    assert misses[0].violation == pytest.approx(0.025)
    assert "downloadSize 41,000 B is above 40,000 B" in misses[0].sentence
