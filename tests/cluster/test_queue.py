"""Kueue's side of a queue, played by the test: Jobs wait suspended, and go on when they are let.

Kueue itself does no more to a Job than this: it watches the label of its queue, clears `spec.suspend` when
there is quota, and sets it again when somebody with a higher priority needs the room.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.api_server import ApiServer, Document
from support.cluster_study import condition, path, pool, study, trials
from support.operator_process import OperatorProcess, operator
from support.simulated_answers import function_of_settings
from support.simulated_node import Answer, Answers, Fault, PodRun, SimulatedNodes
from support.waiting import until

pytestmark = pytest.mark.usefixtures("definitions")

QUEUE = "kueue.x-k8s.io/queue-name"
STAGE, TRIAL = "paretune.dev/stage", "paretune.dev/trial"


class Script:
    """A function of the settings, unless a test says something else."""

    def __init__(self) -> None:
        self.rule: Callable[[PodRun], Answer | None] = lambda _run: None
        self.stages: list[tuple[str, str]] = []

    def __call__(self, run: PodRun) -> Answer:
        self.stages.append((run.labels[STAGE], run.labels.get(TRIAL, "")))
        return self.rule(run) or function_of_settings(run)


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.fixture(scope="module")
def running(
    api: ApiServer, definitions: None, script: Script, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """An operator of a cluster with Kueue."""
    with SimulatedNodes(api, Answers(script)) as nodes:
        nodes.add("queued-1", labels={"pool": "queued"})
        api.apply(pool("queued"))
        folder = tmp_path_factory.mktemp("operator")
        with operator(api.kubeconfig, folder, kueue={"enabled": True}) as process:
            yield process
    api.delete("/apis/paretune.dev/v1alpha1/devicepools/queued")


@pytest.fixture(autouse=True)
def _fresh(script: Script) -> Iterator[None]:
    script.stages.clear()
    yield
    script.rule = lambda _run: None


def _study(trials: int = 2, queue: str = "team-a") -> Document:
    return study(
        "kws",
        devices=[{"name": "d", "pool": "queued"}],
        budget={"trials": trials, "parallelism": 1},
        compress={"queue": queue},
    )


def _jobs(api: ApiServer, namespace: str, stage: str = "") -> list[Document]:
    selector = {"labelSelector": f"{STAGE}={stage}"} if stage else {}
    return api.items(f"/apis/batch/v1/namespaces/{namespace}/jobs", **selector)


def _one(api: ApiServer, namespace: str, stage: str) -> Document:
    return until(lambda: _jobs(api, namespace, stage), 120, f"a Job of stage {stage}")[0]


def _suspend(api: ApiServer, job: Document, suspend: bool) -> None:
    address = f"/apis/batch/v1/namespaces/{job['metadata']['namespace']}/jobs/{job['metadata']['name']}"
    api.patch(address, {"spec": {"suspend": suspend}})


def _let_all(api: ApiServer, namespace: str) -> Callable[[], Any]:
    """Kueue with room for everything: look for a study that is Complete, and let Jobs go meanwhile."""

    def step() -> bool:
        for job in _jobs(api, namespace):
            if job["spec"].get("suspend"):
                assert job["metadata"]["labels"][QUEUE] == "team-a"
                _suspend(api, job, False)
        return condition(api.get(path(namespace, "kws")), "Complete").get("status") == "True"

    return step


def _status(api: ApiServer, namespace: str, number: int = 0) -> Document:
    found = trials(api, namespace)
    return dict(found[number].get("status", {})) if len(found) > number else {}


def test_what_computes_waits_in_its_queue_and_says_so_and_devices_have_no_queue(
    api: ApiServer, namespace: str, script: Script, running: OperatorProcess
) -> None:
    api.create(_study(), namespace)
    intake = _one(api, namespace, "intake")
    assert (intake["spec"]["suspend"], intake["metadata"]["labels"][QUEUE]) == (True, "team-a")
    assert (
        QUEUE not in intake["spec"]["template"]["metadata"]["labels"]
    )  # of the Job, not of pods on their own
    waits = until(
        lambda: (
            (c := condition(api.get(path(namespace, "kws")), "Progressing"))["message"].startswith("Queued")
            and c
        ),
        60,
        "a study that says Queued",
    )
    assert "queue" in waits["message"]
    assert script.stages == []

    _suspend(api, intake, False)
    compress = _one(api, namespace, "compress")
    assert (compress["spec"]["suspend"], compress["metadata"]["labels"][QUEUE]) == (True, "team-a")
    status = until(lambda: (s := _status(api, namespace)).get("state") == "Queued" and s, 60, "Queued")
    assert status["reason"] == "Queued"
    assert "suspended" in status["message"]
    assert script.stages == [("intake", "")]

    _suspend(api, compress, False)
    benchmark = until(lambda: ("benchmark", "0") in script.stages, 60, "the baseline on its device")
    assert benchmark
    seen: list[Document] = []
    step = _let_all(api, namespace)
    until(lambda: seen.extend(_jobs(api, namespace)) or step(), 240, "Complete")
    queued = {j["metadata"]["labels"][STAGE] for j in seen if QUEUE in j["metadata"]["labels"]}
    free = {j["metadata"]["labels"][STAGE] for j in seen if QUEUE not in j["metadata"]["labels"]}
    assert "compress" in queued
    assert "benchmark" in free
    assert not queued & free
    assert all(t["status"].get("attempts", 0) == 0 for t in trials(api, namespace))


def test_a_trial_that_its_queue_takes_the_room_from_waits_again_and_loses_nothing(
    api: ApiServer, namespace: str, script: Script, running: OperatorProcess
) -> None:
    first: list[str] = []

    def rule(run: PodRun) -> Answer | None:
        if run.labels[STAGE] == "compress" and run.labels[TRIAL] == "1" and not first:
            first.append(run.name)
            return Fault.HANG
        return None

    script.rule = rule
    api.create(_study(), namespace)
    step = _let_all(api, namespace)
    until(
        lambda: step() or (_status(api, namespace, 1).get("state") == "Compressing" and first),
        120,
        "trial 1 at work",
    )
    (job,) = (j for j in _jobs(api, namespace, "compress") if j["metadata"]["labels"][TRIAL] == "1")
    _suspend(api, job, True)
    status = until(
        lambda: (s := _status(api, namespace, 1)).get("state") == "Queued" and s, 120, "trial 1 Queued again"
    )
    assert status["reason"] == "Queued"
    until(
        lambda: not api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"{TRIAL}=1"),
        60,
        "its pod gone",
    )

    until(step, 240, "Complete")
    status = _status(api, namespace, 1)
    assert status["state"] in ("Complete", "Infeasible")
    assert status.get("attempts", 0) == 0
    assert script.stages.count(("compress", "1")) == 2


def test_a_study_is_deleted_while_it_waits_in_its_queue(
    api: ApiServer, namespace: str, running: OperatorProcess
) -> None:
    api.create(_study(), namespace)
    _one(api, namespace, "intake")
    api.delete(path(namespace, "kws"))
    until(lambda: api.find(path(namespace, "kws")) is None, 120, "the study gone")
    until(lambda: not _jobs(api, namespace, "intake"), 60, "its Job gone")
