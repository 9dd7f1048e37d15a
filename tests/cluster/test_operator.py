"""The operator as a process against a real API server; nodes are played."""

from collections.abc import Callable, Iterator

import pytest
from paretune.api import OptimizationTrial
from paretune_contract.stages import CompressResult
from support.api_server import ApiServer
from support.cluster_study import condition, path, pool, study, trials, wait_for
from support.operator_process import OperatorProcess, operator
from support.simulated_answers import function_of_settings
from support.simulated_node import Answer, Answers, Fault, PodRun, SimulatedNodes
from support.waiting import until

pytestmark = pytest.mark.usefixtures("definitions")


class Script:
    """What pods answer: what a test says first, else a function of the settings."""

    def __init__(self) -> None:
        self.rule: Callable[[PodRun], Answer | None] = lambda _run: None
        self.seen: list[dict[str, str]] = []

    def __call__(self, run: PodRun) -> Answer:
        self.seen.append(dict(run.labels))
        answer = self.rule(run)
        return function_of_settings(run) if answer is None else answer

    def of(self, namespace_uid: str, stage: str) -> list[dict[str, str]]:
        """Labels of the pods of a study's stage that were answered."""
        return [
            s
            for s in self.seen
            if s.get("paretune.dev/study-uid") == namespace_uid and s.get("paretune.dev/stage") == stage
        ]


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.fixture(scope="module")
def nodes(api: ApiServer, script: Script) -> Iterator[SimulatedNodes]:
    with SimulatedNodes(api, Answers(script)) as found:
        found.add("work-1")
        found.add("pi-1", labels={"pool": "pool-0"})
        found.add("pi-2", labels={"pool": "pool-1"})
        yield found


@pytest.fixture(scope="module")
def pools(api: ApiServer, definitions: None) -> None:
    for name in ("pool-0", "pool-1"):
        api.apply(pool(name))


@pytest.fixture(scope="module")
def running(
    api: ApiServer, nodes: SimulatedNodes, pools: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    with operator(api.kubeconfig, tmp_path_factory.mktemp("operator")) as process:
        yield process


@pytest.fixture(autouse=True)
def _no_rule(script: Script) -> Iterator[None]:
    yield
    script.rule = lambda _run: None


def test_a_study_runs_to_its_front(api: ApiServer, namespace: str, running: OperatorProcess) -> None:
    api.create(study("kws", devices=2), namespace)
    done = wait_for(api, namespace, "kws", "Complete")
    status, found = done["status"], trials(api, namespace)
    assert condition(done, "Ready")["reason"] == "Accepted"
    assert condition(done, "Complete")["reason"] == "BudgetSpent"
    assert status["progress"] == "14/14"
    assert len(found) == 14
    assert len({str(t["spec"]["settings"]) for t in found}) == 14
    front = [t for t in found if t["spec"]["number"] in status["front"]]
    assert front
    for trial in front:
        assert {"latency/d0", "latency/d1"} <= set(trial["status"]["final"]["metrics"])
    assert status["hypervolume"] > 0
    assert "downloadSize" in status["best"]


def test_a_finished_study_leaves_no_job_behind(
    api: ApiServer, namespace: str, running: OperatorProcess
) -> None:
    api.create(study("kws", budget={"trials": 4, "parallelism": 2}), namespace)
    wait_for(api, namespace, "kws", "Complete")
    until(lambda: not api.items(f"/apis/batch/v1/namespaces/{namespace}/jobs"), 60, "all Jobs gone")


def test_a_bigger_budget_continues_a_complete_study(
    api: ApiServer, namespace: str, running: OperatorProcess
) -> None:
    api.create(study("kws", budget={"trials": 4, "parallelism": 2}), namespace)
    wait_for(api, namespace, "kws", "Complete")
    before = trials(api, namespace)
    api.patch(path(namespace, "kws"), {"spec": {"budget": {"trials": 8}}})
    until(lambda: len(trials(api, namespace)) == 8, 120)
    wait_for(api, namespace, "kws", "Complete")
    after = trials(api, namespace)
    assert [t["spec"] for t in after[:4]] == [t["spec"] for t in before]


def test_a_suspended_study_starts_nothing_and_goes_on(
    api: ApiServer, namespace: str, running: OperatorProcess
) -> None:
    api.create(study("kws", suspend=True), namespace)
    until(lambda: condition(api.get(path(namespace, "kws")), "Progressing").get("reason") == "Suspended", 120)
    assert trials(api, namespace) == []
    api.patch(path(namespace, "kws"), {"spec": {"suspend": False}})
    wait_for(api, namespace, "kws", "Complete")


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"devices": [{"name": "d0", "pool": "nowhere"}]}, "PoolNotFound", "nowhere"),
        ({"tracking": {"uri": "http://mlflow:5000"}}, "TrackingNotAllowed", "http://mlflow:5000"),
        ({"artifacts": {}}, "NoStore", "spec.artifacts.uri"),
        ({"artifacts": {"uri": "pvc://shelf/x"}}, "ClaimNotFound", "shelf"),
    ],
)
def test_what_the_cluster_does_not_allow_is_refused_with_the_field(
    api: ApiServer,
    namespace: str,
    running: OperatorProcess,
    change: dict[str, object],
    reason: str,
    words: str,
) -> None:
    api.create(study("kws", **change), namespace)
    refused = wait_for(api, namespace, "kws", "Ready", "False")
    assert condition(refused, "Ready")["reason"] == reason
    assert words in condition(refused, "Ready")["message"]
    until(lambda: _warned(api, namespace, reason), 60, f"an Event {reason}")


def _warned(api: ApiServer, namespace: str, reason: str) -> bool:
    events = api.items(f"/api/v1/namespaces/{namespace}/events")
    return any(e["reason"] == reason and e["type"] == "Warning" for e in events)


def test_a_refused_study_is_accepted_once_its_pool_is_there(
    api: ApiServer, nodes: SimulatedNodes, namespace: str, running: OperatorProcess
) -> None:
    spec = {"devices": [{"name": "d0", "pool": "late"}], "budget": {"trials": 3, "parallelism": 1}}
    api.create(study("kws", **spec), namespace)
    wait_for(api, namespace, "kws", "Ready", "False")
    api.apply(pool("late", nodeSelector={"pool": "pool-0"}))
    wait_for(api, namespace, "kws", "Complete")
    api.delete("/apis/paretune.dev/v1alpha1/devicepools/late")


def test_a_model_that_cannot_be_read_is_refused_with_the_cause(
    api: ApiServer, script: Script, namespace: str, running: OperatorProcess
) -> None:
    script.rule = lambda run: Fault.DENIED if run.task and run.task.intake else None
    api.create(study("kws"), namespace)
    refused = wait_for(api, namespace, "kws", "Ready", "False")
    assert condition(refused, "Ready")["reason"] == "ModelUnreadable"
    assert "access denied" in condition(refused, "Ready")["message"]


def _on(trial: str, stage: str, fault: Answer, attempts: int = 1) -> Callable[[PodRun], Answer | None]:
    def rule(run: PodRun) -> Answer | None:
        labels = run.labels
        hit = labels.get("paretune.dev/trial") == trial and labels.get("paretune.dev/stage") == stage
        return fault if hit and int(labels["paretune.dev/attempt"]) < attempts else None

    return rule


def test_a_candidate_that_crashes_is_a_result(
    api: ApiServer, script: Script, namespace: str, running: OperatorProcess
) -> None:
    script.rule = _on("3", "compress", Fault.CRASH, attempts=99)
    api.create(study("kws"), namespace)
    wait_for(api, namespace, "kws", "Complete")
    status = trials(api, namespace)[3]["status"]
    assert (status["state"], status["reason"]) == ("Failed", "Crashed")
    assert "139" in status["message"]


def _sized_by(coder: str) -> Callable[[PodRun], Answer | None]:
    """Compression by an image whose sizes are of this coder."""

    def rule(run: PodRun) -> Answer | None:
        answer = function_of_settings(run)
        return answer.model_copy(update={"coder": coder}) if isinstance(answer, CompressResult) else None

    return rule


def test_an_image_whose_sizes_are_of_another_coder_ends_the_study_with_the_cause(
    api: ApiServer, script: Script, namespace: str, running: OperatorProcess
) -> None:
    script.rule = _sized_by("zstd-22")
    api.create(study("kws"), namespace)
    failed = condition(wait_for(api, namespace, "kws", "Failed"), "Failed")
    assert failed["reason"] == "BaselineFailed"
    assert "by the coder zstd-22, the study's is paretune-1" in failed["message"]
    assert len(trials(api, namespace)) == 1


def test_a_study_keeps_the_coder_that_it_was_accepted_with(
    api: ApiServer, script: Script, namespace: str, running: OperatorProcess
) -> None:
    """Its image for compression is the one of then, whatever the operator's version."""
    script.rule = _sized_by("zstd-22")
    api.create(study("kws", suspend=True, budget={"trials": 4, "parallelism": 2}), namespace)
    until(lambda: condition(api.get(path(namespace, "kws")), "Progressing").get("reason") == "Suspended", 120)
    assert api.get(path(namespace, "kws"))["status"]["coder"] == "paretune-1"
    api.patch(f"{path(namespace, 'kws')}/status", {"status": {"coder": "zstd-22"}})
    api.patch(path(namespace, "kws"), {"spec": {"suspend": False}})
    done = wait_for(api, namespace, "kws", "Complete")
    assert done["status"]["coder"] == "zstd-22"
    assert {t["status"].get("coder") for t in trials(api, namespace)} == {"zstd-22"}


def test_a_lost_message_costs_an_attempt_and_no_trial(
    api: ApiServer, script: Script, namespace: str, running: OperatorProcess
) -> None:
    script.rule = _on("2", "compress", Fault.LOSE_MESSAGE)
    api.create(study("kws"), namespace)
    wait_for(api, namespace, "kws", "Complete")
    status = trials(api, namespace)[2]["status"]
    assert status["state"] in ("Complete", "Infeasible")
    assert status["attempts"] == 1


def test_an_evicted_pod_is_replaced_by_its_job(
    api: ApiServer, script: Script, namespace: str, running: OperatorProcess
) -> None:
    hit: list[str] = []

    def once(run: PodRun) -> Answer | None:
        if run.labels.get("paretune.dev/trial") == "1" and not hit:
            hit.append(run.name)
            return Fault.EVICT
        return None

    script.rule = once
    api.create(study("kws", budget={"trials": 4, "parallelism": 2}), namespace)
    wait_for(api, namespace, "kws", "Complete")
    assert hit
    assert trials(api, namespace)[1]["status"].get("attempts", 0) == 0


def test_a_store_that_is_down_fails_no_trial_and_stops_new_stages(
    api: ApiServer, script: Script, namespace: str, running: OperatorProcess
) -> None:
    down = [True]

    def rule(run: PodRun) -> Answer | None:
        stage = run.labels.get("paretune.dev/stage")
        return Fault.STORE_DOWN if down[0] and stage == "compress" else None

    script.rule = rule
    api.create(study("kws", budget={"trials": 6, "parallelism": 3}), namespace)
    until(
        lambda: condition(api.get(path(namespace, "kws")), "Progressing").get("reason") == "StoreUnavailable",
        120,
    )
    down[0] = False
    wait_for(api, namespace, "kws", "Complete")
    assert {t["status"]["state"] for t in trials(api, namespace)} <= {"Complete", "Infeasible"}


def test_a_baseline_waits_for_a_node_and_a_candidate_fails_without_one(
    api: ApiServer, namespace: str, running: OperatorProcess, nodes: SimulatedNodes
) -> None:
    api.apply(pool("shy", pendingDeadline="3s"))
    budget = {"trials": 4, "parallelism": 1}
    api.create(study("kws", devices=[{"name": "d0", "pool": "shy"}], budget=budget), namespace)

    def states() -> list[tuple[str, str]]:
        return [(t["status"].get("state", ""), t["status"].get("reason", "")) for t in trials(api, namespace)]

    def baseline_was_tried_again() -> bool:
        found = trials(api, namespace)
        return bool(found) and found[0]["status"].get("attempts", 0) >= 2

    until(baseline_was_tried_again, 120, "the baseline waits for its pool")
    assert states()[0][1] in ("Unschedulable", "")
    assert condition(api.get(path(namespace, "kws")), "Failed")["status"] == "False"
    nodes.add("shy-1", labels={"pool": "shy"})
    until(lambda: states()[0][0] == "Complete", 120, "the baseline is measured once there is a node")
    nodes.remove("shy-1")
    until(lambda: ("Failed", "Unschedulable") in states(), 120, "a candidate without a node fails")
    nodes.add("shy-1", labels={"pool": "shy"})
    wait_for(api, namespace, "kws", "Complete")
    nodes.remove("shy-1")
    api.delete("/apis/paretune.dev/v1alpha1/devicepools/shy")


def test_a_quota_is_named_and_waited_for(api: ApiServer, namespace: str, running: OperatorProcess) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    api.create(study("kws", budget={"trials": 3, "parallelism": 1}), namespace)
    wait_for(api, namespace, "kws", "Ready")
    api.create(quota, namespace)
    until(
        lambda: (
            any(t.get("status", {}).get("reason") == "QuotaExceeded" for t in trials(api, namespace))
            or condition(api.get(path(namespace, "kws")), "Complete").get("status") == "True"
        ),
        180,
        "QuotaExceeded",
    )
    api.delete(f"/api/v1/namespaces/{namespace}/resourcequotas/none")
    wait_for(api, namespace, "kws", "Complete", seconds=400)


def test_a_quota_on_jobs_is_named_and_waited_for(
    api: ApiServer, namespace: str, running: OperatorProcess
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    api.create(study("kws", budget={"trials": 3, "parallelism": 1}), namespace)
    wait_for(api, namespace, "kws", "Ready")
    api.create(quota, namespace)

    def refused() -> bool:
        found = [t["status"] for t in trials(api, namespace)]
        return any(s.get("state") == "Queued" and s.get("reason") == "QuotaExceeded" for s in found)

    until(refused, 120, "a trial that says QuotaExceeded")
    api.delete(f"/api/v1/namespaces/{namespace}/resourcequotas/none")
    done = wait_for(api, namespace, "kws", "Complete", seconds=400)
    assert done["status"]["progress"] == "3/3"


def test_a_record_that_somebody_took_away_stops_the_search(
    api: ApiServer, namespace: str, running: OperatorProcess
) -> None:
    api.create(study("kws", budget={"trials": 40, "parallelism": 1}), namespace)
    until(lambda: len(trials(api, namespace)) > 3, 120)
    last = trials(api, namespace)[-1]["metadata"]["name"]
    api.delete(path(namespace, last, "optimizationtrials"))

    def stopped() -> bool:
        found = condition(api.get(path(namespace, "kws")), "Progressing")
        return (found.get("status"), found.get("reason")) == ("False", "RecordsMissing")

    until(stopped, 120, "RecordsMissing")
    assert (
        last.rpartition("-")[2].lstrip("0")
        in condition(api.get(path(namespace, "kws")), "Progressing")["message"]
    )


def test_a_deleted_study_takes_its_children_and_has_its_artifacts_purged(
    api: ApiServer, script: Script, namespace: str, running: OperatorProcess
) -> None:
    created = api.create(study("kws", budget={"trials": 40, "parallelism": 2}), namespace)
    until(lambda: len(trials(api, namespace)) > 3, 120)
    api.delete(path(namespace, "kws"))
    until(lambda: api.find(path(namespace, "kws")) is None, 120, "the study gone")
    until(lambda: not trials(api, namespace), 120, "its trials gone")
    until(lambda: script.of(created["metadata"]["uid"], "purge"), 120, "purge")


def test_a_study_of_the_same_name_begins_anew(
    api: ApiServer, namespace: str, running: OperatorProcess
) -> None:
    manifest = study("kws", budget={"trials": 3, "parallelism": 1})
    first = api.create(manifest, namespace)
    wait_for(api, namespace, "kws", "Complete")
    api.delete(path(namespace, "kws"))
    until(lambda: api.find(path(namespace, "kws")) is None, 120)
    second = api.create(manifest, namespace)
    wait_for(api, namespace, "kws", "Complete")
    owners = {t["metadata"]["ownerReferences"][0]["uid"] for t in trials(api, namespace)}
    assert owners == {second["metadata"]["uid"]} != {first["metadata"]["uid"]}


def test_records_in_the_cluster_are_the_records_of_one_machine(
    api: ApiServer, namespace: str, running: OperatorProcess
) -> None:
    api.create(study("kws", budget={"trials": 12, "parallelism": 1}), namespace)
    wait_for(api, namespace, "kws", "Complete")
    records = [OptimizationTrial.model_validate(t) for t in trials(api, namespace)]
    assert [r.number for r in records] == list(range(12))
    assert all(len(str(t)) < 16 * 1024 for t in trials(api, namespace))


def test_at_most_so_many_benchmarks_of_a_pool_run_at_a_time(
    api: ApiServer, script: Script, namespace: str, running: OperatorProcess
) -> None:
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    most = [0]

    def rule(run: PodRun) -> Answer | None:
        if run.labels.get("paretune.dev/stage") == "benchmark":
            selector = "paretune.dev/stage=benchmark"
            unfinished = [
                j
                for j in api.items(jobs, labelSelector=selector)
                if not j.get("status", {}).get("conditions")
            ]
            most[0] = max(most[0], len(unfinished))
        return None

    script.rule = rule
    api.create(study("kws", budget={"trials": 8, "parallelism": 6}), namespace)
    wait_for(api, namespace, "kws", "Complete")
    assert most[0] == 1


def test_pools_tell_their_nodes(api: ApiServer, nodes: SimulatedNodes, running: OperatorProcess) -> None:
    found = until(
        lambda: (
            (p := api.get("/apis/paretune.dev/v1alpha1/devicepools/pool-0")).get("status", {}).get("nodes")
            and p
        ),
        60,
    )
    assert found["status"]["nodes"] == 1
    assert condition(found, "Ready")["status"] == "True"


def test_probes_and_metrics_tell_how_it_is(running: OperatorProcess) -> None:
    assert running.get("/healthz")[0] == 200
    assert running.get("/readyz")[0] == 200
    text = running.get("/metrics")[1]
    for name in ("paretune_studies", "paretune_reconcile_seconds", "paretune_api_requests_total"):
        assert name in text
    assert 'paretune_reconcile_seconds_count{result="error"} 0.0' in text, running.log.read_text()[-4000:]
