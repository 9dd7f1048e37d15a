"""The engine with simulated stages: the study's rules hold, whatever happens to the process."""

import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from paretune.api import OptimizationTrial, State
from paretune.local.workdir import WorkDirectory
from paretune.search.objectives import resolve
from paretune.search.replay import Difference, replay
from support.simulated import Killed, SimulatedStages, simulated_engine, simulated_study


def settings_of(trials: tuple[OptimizationTrial, ...]) -> list[dict[str, object]]:
    return [t.settings.canonical() for t in trials]


def run_to_end(
    folder: Path, study: object = None, seed: int = 0, **kwargs: object
) -> tuple[OptimizationTrial, ...]:
    engine = simulated_engine(folder, SimulatedStages(seed, **kwargs), study)  # type: ignore[arg-type]
    assert engine.run() is not None
    return engine.trials


def test_a_study_runs_its_budget_and_starts_with_the_untouched_baseline(tmp_path: Path) -> None:
    trials = run_to_end(tmp_path)
    assert len(trials) == 24
    assert trials[0].settings.canonical() == {}
    assert trials[0].status.state is State.COMPLETE
    assert all(t.final for t in trials)


def test_equal_settings_never_run_twice(tmp_path: Path) -> None:
    digests = [t.settings.digest() for t in run_to_end(tmp_path, simulated_study(60, 3))]
    assert len(set(digests)) == 60


def test_equal_bytes_are_measured_once(tmp_path: Path) -> None:
    stages = SimulatedStages()
    engine = simulated_engine(tmp_path, stages, simulated_study(60, 3))
    engine.run()
    measured = [n for n, stage, _, final in stages.started if stage == "benchmark" and not final]
    shas = Counter(engine.trials[n].status.artifact.sha256 for n in measured)  # type: ignore[union-attr]
    assert set(shas.values()) == {1}
    copies = [t for t in engine.trials if any(p.copied_from is not None for p in t.status.pools.values())]
    assert copies, "the simulated space has settings with equal bytes"


def test_a_candidate_that_breaks_a_constraint_never_reaches_a_device(tmp_path: Path) -> None:
    stages = SimulatedStages()
    engine = simulated_engine(tmp_path, stages, simulated_study(40))
    engine.run()
    infeasible = {t.number for t in engine.trials if t.status.state is State.INFEASIBLE}
    assert infeasible
    assert not infeasible & {n for n, stage, _, _ in stages.started if stage == "benchmark"}


def test_the_front_is_measured_again_and_tested_once_at_the_end(tmp_path: Path) -> None:
    stages = SimulatedStages()
    engine = simulated_engine(tmp_path, stages)
    engine.run()
    finals = [(n, stage) for n, stage, _, final in stages.started if final]
    assert len(finals) == len(set(finals))
    with_final = {t.number for t in engine.trials if t.status.final}
    assert with_final == {n for n, _ in finals}
    assert 0 in with_final
    last_search = max(i for i, (_, _, _, final) in enumerate(stages.started) if not final)
    first_final = min(i for i, (_, _, _, final) in enumerate(stages.started) if final)
    assert last_search < first_final


@pytest.mark.parametrize("kill_at", [0, 1, 2, 3, 7, 12, 20, 31, 40, 55])
def test_a_killed_study_goes_on_to_the_very_same_trials(tmp_path: Path, kill_at: int) -> None:
    whole = run_to_end(tmp_path / "whole")
    engine = simulated_engine(tmp_path / "cut", SimulatedStages(kill_at=kill_at))
    with pytest.raises(Killed):
        engine.run()
    assert settings_of(run_to_end(tmp_path / "cut")) == settings_of(whole)


def test_at_parallelism_two_nothing_is_lost_or_repeated_over_ten_kills_and_replay_passes(
    tmp_path: Path,
) -> None:
    study = simulated_study(40, 2)
    draw = random.Random(1)
    finished: dict[int, OptimizationTrial] = {}
    for attempt in range(10):
        engine = simulated_engine(tmp_path, SimulatedStages(attempt, kill_at=draw.randrange(2, 9)), study)
        with pytest.raises(Killed):
            engine.run()
        now = {t.number: t for t in WorkDirectory(tmp_path).read_trials() if t.final}
        for number, trial in finished.items():
            assert now[number] == trial
        finished = now
    engine = simulated_engine(tmp_path, SimulatedStages(99), study)
    assert engine.run() is not None
    assert [t.number for t in engine.trials] == list(range(40))
    assert len({t.settings.digest() for t in engine.trials}) == 40
    outcomes = list(replay(engine.space, resolve(study.spec), 7, study.spec.search.sampler, engine.trials))
    assert not [o for o in outcomes if isinstance(o, Difference)]


def test_replay_finds_a_changed_suggestion(tmp_path: Path) -> None:
    study = simulated_study(24)
    trials = list(run_to_end(tmp_path, study))
    engine = simulated_engine(tmp_path, SimulatedStages(), study)
    other = next(t for t in trials if t.number not in (15, 16) and t.settings != trials[15].settings)
    trials[15] = trials[15].model_copy(
        update={"spec": trials[15].spec.model_copy(update={"settings": other.settings})}
    )
    outcomes = list(replay(engine.space, resolve(study.spec), 7, study.spec.search.sampler, tuple(trials)))
    assert next(o.number for o in outcomes if isinstance(o, Difference)) == 15


def test_a_bigger_budget_goes_on_with_the_next_number(tmp_path: Path) -> None:
    first = run_to_end(tmp_path, simulated_study(12))
    more = run_to_end(tmp_path, simulated_study(18))
    assert settings_of(more[:12]) == settings_of(first)
    assert len(more) == 18


def test_failures_of_candidates_end_the_study_at_max_failures(tmp_path: Path) -> None:
    study = simulated_study(60, 1, budget={"trials": 60, "parallelism": 1, "maxFailures": 3})
    stages = SimulatedStages(fail=lambda s: s.sparsity.level > 0)
    engine = simulated_engine(tmp_path, stages, study)
    finish = engine.run()
    assert finish is not None
    assert finish.reason == "TooManyFailures"
    assert sum(t.status.state is State.FAILED for t in engine.trials) == 4


def test_a_baseline_that_fails_ends_the_study_as_failed(tmp_path: Path) -> None:
    engine = simulated_engine(tmp_path, SimulatedStages(fail=lambda s: True))
    finish = engine.run()
    assert finish is not None
    assert (finish.reason, finish.failed) == ("BaselineFailed", True)
    assert len(engine.trials) == 1


def test_stopping_keeps_finished_trials_and_the_next_run_goes_on(tmp_path: Path) -> None:
    stop = threading.Event()

    class Stopping(SimulatedStages):
        def wait(self, seconds: float) -> list:  # type: ignore[type-arg]
            answers = super().wait(seconds)
            if len(self.started) > 10:
                stop.set()
            return answers

    engine = simulated_engine(tmp_path, Stopping(), stop=stop)
    assert engine.run() is None
    done = [t for t in engine.trials if t.final]
    assert done
    searched = {"status": {"final"}}
    now = run_to_end(tmp_path)[: len(done)]
    assert [t.model_dump(exclude=searched) for t in now] == [t.model_dump(exclude=searched) for t in done]
