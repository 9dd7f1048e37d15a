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
from support.simulated import SimulatedStages, simulated_engine
from support.simulated_answers import function_of_settings
from support.simulated_node import Answers, Later, PodRun, SimulatedNodes

pytestmark = [pytest.mark.usefixtures("definitions"), pytest.mark.timeout(1200)]

KILLS = 4
FINAL = ("Complete", "Infeasible", "Failed")


@pytest.mark.parametrize("parallelism", [1, 4])
def test_a_killed_operator_loses_and_repeats_nothing(
    api: ApiServer, namespace: str, tmp_path: Path, parallelism: int
) -> None:
    ran: list[tuple[str, ...]] = []

    def answer(run: PodRun) -> Later:
        ran.append(
            tuple(run.labels.get(f"paretune.dev/{k}", "") for k in ("stage", "trial", "device", "final"))
        )
        return Later(0.2, function_of_settings(run))

    chance = random.Random(parallelism)
    manifest = study("kws", devices=[{"name": "cpu", "pool": "killed"}])
    manifest["spec"]["budget"] = {"trials": 20, "parallelism": parallelism}
    manifest["spec"]["search"] = {"seed": 7}
    with SimulatedNodes(api, Answers(answer)) as nodes:
        nodes.add("killed-1", labels={"pool": "killed"})
        api.apply(pool("killed"))
        api.create(manifest, namespace)
        finished: dict[int, dict[str, object]] = {}
        for kill in range(KILLS):
            lease = {"name": f"kill-{parallelism}-{kill}", "namespace": "default"}
            with operator(api.kubeconfig, tmp_path / str(kill), lease=lease) as running:
                time.sleep(chance.uniform(0.2, 3.0))
                running.kill()
            found = {t["spec"]["number"]: t.get("status", {}) for t in trials(api, namespace)}
            now = {number: status for number, status in found.items() if status.get("state") in FINAL}
            for number, status in finished.items():
                assert now[number]["metrics"] == status["metrics"]
            finished = now
        lease = {"name": f"last-{parallelism}", "namespace": "default"}
        with operator(api.kubeconfig, tmp_path / "last", lease=lease):
            complete = wait_for(api, namespace, "kws", "Complete", seconds=600)
    records = [OptimizationTrial.model_validate(t) for t in trials(api, namespace)]
    assert [r.number for r in records] == list(range(20))
    assert len({r.settings.digest() for r in records}) == 20
    assert len(ran) == len(set(ran)), "a stage ran twice"

    accepted = OptimizationStudy.model_validate(complete)
    status = accepted.status
    assert status.intake is not None
    space = available(accepted.spec, status.intake, {n: d.runtime for n, d in status.devices.items()})
    outcomes = list(replay(space, resolve(accepted.spec), status.seed or 0, "auto", records))
    assert all(isinstance(o, Match) for o in outcomes), outcomes[-1]
    assert api.get(path(namespace, "kws"))["status"]["progress"] == "20/20"

    if parallelism == 1:
        whole = simulated_engine(
            tmp_path / "here", SimulatedStages(), OptimizationStudy.model_validate(manifest)
        )
        whole.run()
        assert [r.settings.canonical() for r in records] == [t.settings.canonical() for t in whole.trials]
