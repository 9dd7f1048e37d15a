"""Suggestions as a function of records, seed and number."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paretune.api import State
from paretune.search import pareto, sampler
from paretune.search.objectives import resolve
from paretune.search.prior import first_trials
from paretune.search.records import format_ranges, parse_ranges
from paretune.search.sampler import SpaceExhausted, derive_seed, frozen_trials, suggest
from paretune.search.space import available
from paretune_contract.failure import Reason
from paretune_contract.settings import Scheme, Settings
from unit.search.toy_study import finish, intake, measure, paths, record, search, spec, values

SMALL = {
    "quantization": {"schemes": ["none", "float16", "dynamic"], "training": ["none"]},
    "sparsity": {"patterns": ["none"]},
    "clustering": {"stages": ["none", "int8"], "clusters": {"min": 4, "max": 12}},
    "rate": {"stages": ["none"]},
    "allocation": ["uniform"],
}


MODEST = {
    "quantization": {"training": ["none"]},
    "sparsity": {"patterns": ["none", "unstructured", "2:4"]},
    "allocation": ["uniform"],
    "rate": {"stages": ["none"]},
}
"""Small enough that all of it can be measured."""


def test_equal_seeds_give_equal_trials_and_other_seeds_others():
    assert paths(search(spec(), 18, seed=3)) == paths(search(spec(), 18, seed=3))
    assert paths(search(spec(), 18, seed=3)) != paths(search(spec(), 18, seed=4))


@pytest.mark.parametrize("name", ["auto", "tpe", "nsgaii", "random"])
def test_a_study_rebuilt_from_its_records_continues_as_if_never_interrupted(name):
    whole = search(spec(), 24, seed=1, sampler=name)
    assert paths(search(spec(), 24, seed=1, sampler=name, trials=whole[:17])) == paths(whole)


def test_a_suggestion_does_not_depend_on_the_order_in_which_records_are_read():
    trials = search(spec(), 30)
    space, objectives = available(spec(), intake()), resolve(spec())
    forward = suggest(space, objectives, 0, "auto", 30, trials)
    assert suggest(space, objectives, 0, "auto", 30, trials[::-1]) == forward


def test_of_very_many_trials_the_front_the_latest_and_those_that_run_are_modeled(monkeypatch):
    monkeypatch.setattr(sampler, "MODELED", 45)
    objectives = resolve(spec())
    trials = search(spec(), 60)
    waiting = record(60, trials[5].settings, trials[5].spec.ask, State.PENDING)
    kept = {t.number for t in sampler._modeled(objectives, [*trials, waiting])}
    front = set(pareto.nondominated(pareto.candidates(objectives, trials, fresh=False)))
    assert front | {0, 59, 60} <= kept
    assert len(front) < 44
    assert len(kept) == 45 + 1


def test_with_very_many_trials_nothing_is_tried_twice_and_a_study_continues_as_it_was(monkeypatch):
    monkeypatch.setattr(sampler, "MODELED", 15)
    whole = search(spec(), 40, seed=2)
    assert len({t.settings for t in whole}) == 40
    assert paths(search(spec(), 40, seed=2, trials=whole[:30])) == paths(whole)


def test_a_suggestion_does_not_depend_on_the_hash_seed_of_the_process():
    program = (
        "import json; from unit.search.toy_study import *; "
        "print(json.dumps([t.settings.digest() for t in search(spec(), 16, seed=5)]))"
    )
    tests = str(Path(__file__).parents[2])
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": tests, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(runs) == 1


def test_settings_are_never_suggested_twice():
    for name in ("auto", "random"):
        trials = search(spec(), 36, sampler=name, parallelism=4)
        assert len({t.settings.digest() for t in trials}) == 36


def test_the_search_begins_with_the_prior_and_says_so():
    trials = search(spec(), 14)
    first = first_trials(available(spec(), intake()))
    assert [t.settings for t in trials[: len(first)]] == [s for s, _ in first]
    assert [t.spec.ask.origin for t in trials[: len(first)]] == [o for _, o in first]
    assert {t.spec.ask.origin for t in trials[len(first) :]} == {"sampler"}


def test_a_small_space_is_tried_to_the_last_cell_and_then_exhausted():
    space = available(spec(space=SMALL), intake())
    trials = search(spec(space=SMALL), 60)
    assert space.size == 2 + 2 * (1 + 4)
    assert len(trials) == space.size
    assert {t.settings.digest() for t in trials} == {c.digest() for c in space.cells()}
    with pytest.raises(SpaceExhausted, match=str(space.size)):
        suggest(space, resolve(spec()), 0, "auto", len(trials), trials)


def test_parallel_asks_differ_from_what_runs():
    known = search(spec(), 20)
    space, objectives = available(spec(), intake()), resolve(spec())
    trials = list(known)
    for number in range(20, 28):
        found = suggest(space, objectives, 0, "auto", number, trials)
        assert parse_ranges(found.ask.seen) == frozenset(range(20))
        trials.append(record(number, found.settings, found.ask, State.PENDING))
    assert len({t.settings.digest() for t in trials}) == 28


def test_running_trials_change_what_is_suggested_only_through_what_they_try():
    known = search(spec(), 20)
    space, objectives = available(spec(), intake()), resolve(spec())
    running = record(
        20, Settings.model_validate({"quantization": {"scheme": "int16x8"}}), state=State.COMPRESSING
    )
    measured = finish(running, lambda _: values(accuracy=0.1, downloadSize=1, latency__cpu=1))
    half_done = running.model_copy(
        update={"status": running.status.model_copy(update={"metrics": measured.status.metrics})}
    )
    plain = suggest(space, objectives, 0, "auto", 21, [*known, running])
    assert suggest(space, objectives, 0, "auto", 21, [*known, half_done]) == plain


def test_the_seed_of_an_ask_has_32_bits_and_depends_on_all_three_numbers():
    seeds = {derive_seed(s, n, r) for s in range(5) for n in range(5) for r in range(5)}
    assert len(seeds) == 125
    assert all(0 <= s < 2**32 for s in seeds)


def test_a_study_in_which_nothing_is_feasible_goes_on():
    manifest = spec([{"metric": "accuracy", "atLeast": 0.9999}, {"metric": "downloadSize"}])
    trials = search(manifest, 25)
    assert len(trials) == 25
    assert pareto.candidates(resolve(manifest), trials) == {}


def test_a_study_in_which_all_values_are_equal_goes_on():
    same = values(accuracy=1, downloadSize=1000, latency__cpu=1)
    assert len(search(spec(), 25, outcome=lambda _: same)) == 25


def test_a_study_with_one_objective_goes_on():
    manifest = spec([{"metric": "downloadSize", "atMost": "1MB"}])
    assert len(search(manifest, 25)) == 25


def test_a_candidate_stopped_by_a_gate_is_infeasible_and_as_bad_as_the_worst_known():
    manifest = spec()
    trials = [
        record(0),
        record(1, metrics=values(accuracy=0.2, downloadSize=100), state=State.INFEASIBLE),
    ]
    baseline, stopped = frozen_trials(available(manifest, intake()), resolve(manifest), trials)
    assert all(v <= 0 for v in baseline.constraints.values())
    assert max(stopped.constraints.values()) > 0
    assert stopped.values[1:] == [100.0, baseline.values[2]]
    assert all(type(v) is float for v in (*stopped.values, *baseline.values))


def test_failures_of_candidates_are_infeasible_and_failures_of_the_world_say_nothing():
    space, objectives = available(spec(), intake()), resolve(spec())
    trials = [
        record(0),
        record(1, state=State.FAILED, reason=Reason.CRASHED.value),
        record(2, state=State.FAILED, reason=Reason.STORE_UNAVAILABLE.value),
    ]
    states = [
        (t.state.name, sum(t.constraints.values()) > 0) for t in frozen_trials(space, objectives, trials)
    ]
    assert states == [("COMPLETE", False), ("COMPLETE", True), ("FAIL", False)]


def test_a_scheme_that_always_fails_is_left_alone():
    def without_int16(settings):
        return None if settings.quantization.scheme is Scheme.INT16X8 else measure(settings)

    def tried(sampler):
        trials = search(spec(), 40, seed=1, sampler=sampler, outcome=without_int16)
        return sum(t.settings.quantization.scheme is Scheme.INT16X8 for t in trials[11:])

    assert tried("auto") < tried("random")


def test_the_sampler_finds_more_than_chance_and_most_of_what_there_is():
    manifest = spec(space=MODEST)
    space, objectives = available(manifest, intake()), resolve(manifest)
    everything = [record(0), *(record(i + 1, cell) for i, cell in enumerate(space.cells()))]
    optimum, _ = pareto.covered(objectives, everything)
    shares = {
        name: sum(pareto.covered(objectives, search(manifest, 50, seed, name))[0] for seed in range(3)) / 3
        for name in ("auto", "random")
    }
    assert shares["auto"] > shares["random"]
    assert shares["auto"] > 0.97 * optimum


def test_fresh_rounds_of_the_front_do_not_change_suggestions():
    trials = search(spec(), 20)
    space, objectives = available(spec(), intake()), resolve(spec())
    fresh = [t.model_copy(update={"status": t.status.model_copy(update={"final": _worse()})}) for t in trials]
    assert suggest(space, objectives, 0, "auto", 20, fresh) == suggest(
        space, objectives, 0, "auto", 20, trials
    )


def _worse():
    from paretune.api.trial import FinalMeasurement

    return FinalMeasurement(metrics=values(latency__cpu=9, accuracy=0.1))


def test_an_unknown_sampler_is_named():
    with pytest.raises(ValueError, match="simplex"):
        sampler.suggest(available(spec(), intake()), resolve(spec()), 0, "simplex", 20, search(spec(), 12))


def test_ranges_of_numbers_go_there_and_back():
    assert format_ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert format_ranges([]) == ""
    for numbers in ([], [4], [0, 1], [0, 2, 4], range(100)):
        assert parse_ranges(format_ranges(numbers)) == frozenset(numbers)


@pytest.mark.parametrize("text", ["a", "1-", "-3", "5-2", "1,,x", "1-2-3"])
def test_text_that_is_no_list_of_ranges_is_refused(text):
    with pytest.raises(ValueError, match="ranges"):
        parse_ranges(text)
