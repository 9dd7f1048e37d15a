"""One machine and a cluster run the same plan: equal results lead to the same settings and the same front."""

from pathlib import Path

import pytest
from paretune.api import OptimizationStudy, OptimizationTrial
from support.api_server import ApiServer
from support.cluster_study import path, pool, study, trials, wait_for
from support.operator_process import operator
from support.simulated import SimulatedStages, simulated_engine
from support.simulated_answers import function_of_settings
from support.simulated_node import Answers, SimulatedNodes

pytestmark = pytest.mark.usefixtures("definitions")


def test_the_same_manifest_gives_the_same_trials_and_the_same_front(
    api: ApiServer, namespace: str, tmp_path: Path
) -> None:
    manifest = study("same", devices=[], budget={"trials": 20, "parallelism": 1}, search={"seed": 7})
    del manifest["spec"]["devices"]
    manifest["spec"]["objectives"] = [
        {"metric": "accuracy", "maxDrop": 0.02},
        {"metric": "downloadSize"},
        {"metric": "latency"},
    ]
    manifest["spec"]["dataset"]["test"] = {"uri": "s3://models/test.npz"}
    with SimulatedNodes(api, Answers(function_of_settings)) as nodes:
        nodes.add("same-1")
        api.apply(pool("default", nodeSelector={}))
        with operator(api.kubeconfig, tmp_path / "operator"):
            api.create(manifest, namespace)
            done = wait_for(api, namespace, "same", "Complete")
    there = [OptimizationTrial.model_validate(t) for t in trials(api, namespace)]

    engine = simulated_engine(
        tmp_path / "here", SimulatedStages(), OptimizationStudy.model_validate(manifest)
    )
    engine.run()
    here = engine.trials
    assert [t.settings.canonical() for t in there] == [t.settings.canonical() for t in here]
    assert [t.spec.ask for t in there] == [t.spec.ask for t in here]
    assert [t.status.state for t in there] == [t.status.state for t in here]
    front = engine.snapshot().front
    assert front is not None
    assert done["status"]["front"] == sorted(entry.trial for entry in front.front)
    assert done["status"]["hypervolume"] == pytest.approx(front.hypervolume.value)
    assert api.get(path(namespace, "same"))["status"]["devices"]["cpu"]["pool"] == "default"
