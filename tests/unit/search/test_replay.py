"""Recomputing a study from its records."""

import pytest
from paretune.api import State
from paretune.search.objectives import resolve
from paretune.search.replay import Difference, Match, replay
from paretune.search.space import available
from paretune_contract.settings import Settings
from unit.search.toy_study import intake, record, search, spec


def outcomes(trials, seed=0, sampler="auto"):
    return list(replay(available(spec(), intake()), resolve(spec()), seed, sampler, trials))


@pytest.mark.parametrize("sampler", ["auto", "nsgaii", "random"])
def test_a_study_whose_results_arrived_in_any_order_replays(sampler):
    trials = search(spec(), 26, seed=2, sampler=sampler, parallelism=4, arrivals=11)
    assert any(t.spec.ask.seen not in ("", f"0-{t.number - 1}", "0") for t in trials)
    assert outcomes(trials, 2, sampler) == [Match(n) for n in range(26)]


def test_another_order_of_arrival_is_another_study_that_replays_too():
    a = search(spec(), 22, parallelism=4, arrivals=1)
    b = search(spec(), 22, parallelism=4, arrivals=2)
    assert [t.settings for t in a] != [t.settings for t in b]
    assert all(isinstance(o, Match) for o in outcomes(b))


def test_another_seed_differs_at_the_first_trial_of_the_sampler():
    trials = search(spec(), 20, seed=1)
    last = outcomes(trials, seed=2)[-1]
    assert isinstance(last, Difference)
    assert last.number == 0
    assert "seed" in str(last)


def test_changed_settings_are_reported_with_both_sides_and_end_the_replay():
    trials = search(spec(), 25)
    other = Settings.model_validate({"quantization": {"scheme": "int16x8", "granularity": "tensor"}})
    trials[15] = record(15, other, trials[15].spec.ask)
    found = outcomes(trials)
    assert len(found) == 16
    last = found[-1]
    assert isinstance(last, Difference)
    assert (last.number, last.recorded) == (15, other)
    assert last.recomputed is not None
    assert last.recomputed.sentence() in str(last)
    assert other.sentence() in str(last)


def test_a_changed_result_is_found_out_by_a_later_trial():
    trials = search(spec(), 26)
    trials[9] = record(
        9, trials[9].settings, trials[9].spec.ask, State.FAILED, reason="Crashed"
    )  # of the front
    last = outcomes(trials)[-1]
    assert isinstance(last, Difference)
    assert last.number > 9


def test_a_missing_record_is_named():
    trials = search(spec(), 15)
    last = outcomes([*trials[:7], *trials[8:]])[-1]
    assert isinstance(last, Difference)
    assert "trial 7 is missing" in str(last)


def test_a_record_that_claims_to_know_the_future_is_found_out():
    trials = search(spec(), 15)
    ask = trials[5].spec.ask.model_copy(update={"seen": "0-9"})
    trials[5] = record(5, trials[5].settings, ask)
    last = outcomes(trials)[-1]
    assert isinstance(last, Difference)
    assert "trial 5 is no earlier trial" in str(last)


def test_trials_that_still_run_replay_as_well():
    trials = search(spec(), 20, parallelism=3)
    trials[18] = record(18, trials[18].settings, trials[18].spec.ask, State.BENCHMARKING)
    known = [t for t in trials if t.number < 19]
    assert all(isinstance(o, Match) for o in outcomes(known))
