"""kill -9 of the operator at any moment: nothing is lost, nothing runs twice, and the search replays."""

import random
import time
from pathlib import Path

import pytest
from paretune.api import OptimizationStudy, OptimizationTrial
from paretune.search.objectives import resolve
from paretune.search.replay import Match, replay
from paretune.search.space import available
from support.api_server import ApiServer
from support.cluster_study import path, pool, study, trials, wait_for
from support.operator_process import operator
from support.simulated_answers import function_of_settings
from support.simulated_node import Answers, Later, PodRun, SimulatedNodes

pytestmark = pytest.mark.usefixtures("definitions")


def test_a_killed_operator_loses_and_repeats_nothing(api: ApiServer, namespace: str, tmp_path: Path) -> None:
    done: list[tuple[str, str, str]] = []

    def answer(run: PodRun) -> Later:
        labels = run.labels
        done.append(
            (
                labels.get("paretune.dev/stage", ""),
                labels.get("paretune.dev/trial", ""),
                labels.get("paretune.dev/device", "") + labels.get("paretune.dev/final", ""),
            )
        )
        return Later(0.2, function_of_settings(run))

    chance = random.Random(7)
    with SimulatedNodes(api, Answers(answer)) as nodes:
        nodes.add("killed-work")
        nodes.add("killed-pi", labels={"pool": "pool-killed"})
        api.apply(pool("pool-killed"))
        manifest = study("kws", devices=[{"name": "d0", "pool": "pool-killed"}])
        manifest["spec"]["budget"] = {"trials": 24, "parallelism": 4}
        api.create(manifest, namespace)
        finished: dict[int, dict[str, object]] = {}
        for kill in range(4):
            lease = {"name": f"killed-{kill}", "namespace": "default"}
            with operator(api.kubeconfig, tmp_path / str(kill), lease=lease) as running:
                time.sleep(chance.uniform(0.5, 4.0))
                running.kill()
            now = {
                t["spec"]["number"]: t
                for t in trials(api, namespace)
                if t.get("status", {}).get("state") in ("Complete", "Infeasible", "Failed")
            }
            for number, trial in finished.items():
                assert now[number]["status"]["metrics"] == trial["status"]["metrics"]  # type: ignore[index]
            finished = now
        with operator(api.kubeconfig, tmp_path / "last", lease={"name": "last", "namespace": "default"}):
            complete = wait_for(api, namespace, "kws", "Complete")
    records = [OptimizationTrial.model_validate(t) for t in trials(api, namespace)]
    assert len(records) == 24
    assert len({r.settings.digest() for r in records}) == 24
    assert len(done) == len(set(done)), "a stage ran twice"
    accepted = OptimizationStudy.model_validate(complete)
    status = accepted.status
    assert status.intake is not None
    space = available(accepted.spec, status.intake, {n: d.runtime for n, d in status.devices.items()})
    outcomes = list(replay(space, resolve(accepted.spec), status.seed or 0, "auto", records))
    assert all(isinstance(o, Match) for o in outcomes), outcomes[-1]
    assert api.get(path(namespace, "kws"))["status"]["progress"] == "24/24"
