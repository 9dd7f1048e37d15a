"""What has become of a Job, from Job and pods as an API server writes them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from paretune.cluster import jobs, names
from paretune.cluster.jobs import JobSeen
from paretune.plan.observed import Work
from paretune_contract.failure import Reason
from paretune_contract.stages import (
    BENCHMARK,
    COMPRESS,
    EVALUATE,
    INTAKE,
    Artifact,
    BenchmarkResult,
    CompressResult,
    EvaluateResult,
    Result,
)
from paretune_contract.termination import IntakeReport, failed, to_message
from unit.cluster.objects import SHA, UID
from unit.search.toy_study import intake

Json = dict[str, Any]
DEVICES = {"pi": 1}
CREATED, LATER = "2026-03-01T10:00:00Z", "2026-03-01T10:05:00Z"
ENDED = "2026-03-01T10:20:00Z"
COMPRESSING, BENCHMARKING = Work(7, COMPRESS), Work(7, BENCHMARK, "pi")
FILE = Artifact(path="/work/c.tflite", sha256=SHA, bytes=1000)


# --- documents --------------------------------------------------------------------------------------------


def job(work: Work = COMPRESSING, attempt: int = 0, **status: Any) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.job_name("toy", work, attempt),
            "namespace": "team",
            "uid": "job-1",
            "creationTimestamp": CREATED,
            "labels": {
                **names.work_labels("toy", UID, work, attempt, pool="boards" if work.pool else ""),
                "controller-uid": "job-1",
            },
        },
        "spec": {"suspend": False, "backoffLimit": 0, "template": {}},
        "status": status,
    }


def condition(kind: str, reason: str = "", message: str = "") -> Json:
    found = {"type": kind, "status": "True", "lastProbeTime": ENDED, "lastTransitionTime": ENDED}
    return {**found, "reason": reason, "message": message}


def complete(work: Work = COMPRESSING) -> Json:
    conditions = [
        condition("SuccessCriteriaMet", "CompletionsReached"),
        condition("Complete", "CompletionsReached"),
    ]
    return job(work, succeeded=1, ready=0, startTime=CREATED, completionTime=ENDED, conditions=conditions)


def broken(work: Work = COMPRESSING, reason: str = "PodFailurePolicy") -> Json:
    text = "Container stage for pod team/toy-0007-compress-0-abcde failed with exit code 137"
    conditions = [condition("FailureTarget", reason, text), condition("Failed", reason, text)]
    return job(work, failed=1, ready=0, startTime=CREATED, conditions=conditions)


def waiting(reason: str = "PodInitializing", message: str = "") -> Json:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def running() -> Json:
    return {"running": {"startedAt": LATER}}


def terminated(code: int = 0, message: str = "", reason: str = "") -> Json:
    found = {
        "exitCode": code,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "startedAt": LATER,
        "finishedAt": ENDED,
        "containerID": "containerd://1",
    }
    return {"terminated": {**found, **({"message": message} if message else {})}}


def container(name: str, state: Json) -> Json:
    return {
        "name": name,
        "state": state,
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": "reg/compress:1",
        "imageID": "",
    }


def pod(
    fetch: Json | None = None,
    stage: Json | None = None,
    upload: Json | None = None,
    phase: str = "Running",
    name: str = "toy-0007-compress-0-abcde",
    created: str = CREATED,
    conditions: tuple[Json, ...] = (),
    node: str = "node-1",
    **status: Any,
) -> Json:
    steps = [{"name": step} for step in ("fetch", "stage", "upload")]
    spec = {"initContainers": steps[:2], "containers": steps[2:], "activeDeadlineSeconds": 7200}
    return {
        "metadata": {"name": name, "namespace": "team", "creationTimestamp": created, "labels": {}},
        "spec": {**spec, **({"nodeName": node} if node else {})},
        "status": {
            "phase": phase,
            "qosClass": "Burstable",
            "conditions": [{"type": "PodScheduled", "status": "True"}, *conditions],
            "initContainerStatuses": [
                container("fetch", fetch or waiting()),
                container("stage", stage or waiting()),
            ],
            "containerStatuses": [container("upload", upload or waiting())],
            **status,
        },
    }


def unscheduled(reason: str, message: str) -> Json:
    found = pod(node="", phase="Pending")
    scheduled = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    found["status"] = {"phase": "Pending", "qosClass": "Burstable", "conditions": [scheduled]}
    return found


def seen(document: Json, *pods: Json, refusal: str = "") -> JobSeen:
    found = jobs.seen(document, pods, refusal, DEVICES)
    assert found is not None
    return found


def result_of(document: Json, *pods: Json) -> Result:
    found = seen(document, *pods).result
    assert found is not None
    return found


def succeeded(message: str, **more: Any) -> Json:
    return pod(terminated(), terminated(), terminated(0, message), phase="Succeeded", **more)


# --- whose Job it is --------------------------------------------------------------------------------------


def test_a_job_of_somebody_else_and_one_that_is_being_deleted_are_not_seen() -> None:
    foreign = job()
    foreign["metadata"]["labels"] = {"app": "x"}
    assert jobs.seen(foreign, [], "", DEVICES) is None
    del foreign["metadata"]["labels"]
    assert jobs.seen(foreign, [], "", DEVICES) is None
    leaving = complete()
    leaving["metadata"]["deletionTimestamp"] = ENDED
    assert jobs.seen(leaving, [succeeded(to_message(CompressResult(artifact=FILE)))], "", DEVICES) is None


def test_a_job_tells_its_work_attempt_pod_and_node() -> None:
    found = seen(job(BENCHMARKING, attempt=2), pod(terminated(), running()))
    assert (found.name, found.uid) == ("toy-0007-benchmark-pi-2", "job-1")
    assert (found.work, found.attempt) == (BENCHMARKING, 2)
    assert (found.pod, found.node) == ("toy-0007-compress-0-abcde", "node-1")
    assert found.result is None
    assert found.waits == ""


# --- it ended well ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("work", "result"),
    [
        (COMPRESSING, CompressResult(artifact=FILE)),
        (BENCHMARKING, BenchmarkResult(seconds=3.0)),
        (Work(7, EVALUATE, final=True), EvaluateResult(seconds=2.0)),
        (Work(-1, INTAKE), IntakeReport(summary=intake(), intake="d" * 64)),
        (Work(-1, "retain"), Result(message="3 candidates removed")),
        (Work(-1, "publish"), Result(message="4 versions")),
    ],
)
def test_a_complete_job_has_the_result_that_upload_left(work: Work, result: Result) -> None:
    assert result_of(complete(work), succeeded(to_message(result))) == result


def test_a_bad_candidate_is_a_result_with_its_reason() -> None:
    found = result_of(complete(), succeeded(failed(Reason.STEP_FAILED, "the converter refuses")))
    assert (found.reason, found.message) == (Reason.STEP_FAILED, "the converter refuses")


def test_a_complete_job_whose_pod_is_gone_is_tried_again() -> None:
    found = result_of(complete())
    assert found.reason is Reason.INTERRUPTED
    assert jobs.LOST in found.message


def test_a_complete_job_of_which_only_an_earlier_pod_is_left_is_tried_again() -> None:
    evicted = pod(terminated(), terminated(137), phase="Failed", conditions=(condition("DisruptionTarget"),))
    assert result_of(complete(), evicted).reason is Reason.INTERRUPTED


@pytest.mark.parametrize(
    "message", ["", "Traceback (most recent call last):", '{"artifact": 3}', "[1]", "null"]
)
def test_a_message_that_is_no_result_is_answered_by_the_next_attempt(message: str) -> None:
    assert result_of(complete(), succeeded(message)).reason is Reason.INTERRUPTED


def test_a_compress_stage_that_succeeds_without_a_file_has_not_succeeded() -> None:
    found = result_of(complete(), succeeded("{}"))
    assert found.reason is Reason.INTERNAL
    assert "no file" in found.message


def test_what_a_newer_image_says_beside_the_result_is_left_unread() -> None:
    message = (
        f'{{"schemaVersion":2,"novelty":1,"artifact":{{"path":"/c","sha256":"{SHA}","bytes":7,"kind":"x"}},'
        '"metrics":{"accuracy":{"value":0.9,"low":0.8,"high":1.0,"median":0.9}},'
        '"steps":[{"name":"a","seconds":1.0,"watts":3}]}'
    )
    found = result_of(complete(), succeeded(message))
    assert isinstance(found, CompressResult)
    assert found.reason is None
    assert found.artifact is not None
    assert found.artifact.bytes == 7
    assert found.metrics["accuracy"].value == 0.9


def test_the_latest_pod_counts() -> None:
    first = pod(terminated(), terminated(137), phase="Failed", conditions=(condition("DisruptionTarget"),))
    second = succeeded(to_message(CompressResult(artifact=FILE)), created=LATER, name="second")
    for pods in ((first, second), (second, first)):
        found = seen(complete(), *pods)
        assert found.pod == "second"
        assert found.result == CompressResult(artifact=FILE)


# --- it ended badly ---------------------------------------------------------------------------------------


def test_a_stage_that_is_killed_for_memory_is_out_of_memory() -> None:
    dead = pod(terminated(), terminated(137, reason="OOMKilled"), phase="Failed")
    found = result_of(broken(), dead)
    assert found.reason is Reason.OUT_OF_MEMORY
    assert "limit" in found.message


def test_a_stage_that_is_killed_without_a_word_is_out_of_memory() -> None:
    assert (
        result_of(broken(), pod(terminated(), terminated(137), phase="Failed")).reason is Reason.OUT_OF_MEMORY
    )


def test_a_stage_that_dies_has_crashed_with_the_end_of_its_log() -> None:
    log = "x" * 5000 + "Fatal Python error: Segmentation fault"
    found = result_of(broken(), pod(terminated(), terminated(139, log), phase="Failed"))
    assert found.reason is Reason.CRASHED
    assert "139" in found.message
    assert "Segmentation fault" in found.message
    assert len(found.message) < 500


def test_a_container_that_its_node_lost_is_tried_again() -> None:
    lost = terminated(
        137, "The container could not be located when the pod was terminated", "ContainerStatusUnknown"
    )
    assert result_of(broken(), pod(terminated(), lost, phase="Failed")).reason is Reason.INTERRUPTED


def test_a_stage_that_is_at_work_when_its_time_is_over_has_timed_out() -> None:
    over = {
        "reason": "DeadlineExceeded",
        "message": "Pod was active on the node longer than the specified deadline",
    }
    for state in (running(), terminated(137), terminated(143)):
        found = result_of(broken(), pod(terminated(), state, phase="Failed", **over))
        assert found.reason is Reason.TIMED_OUT
        assert "7200 s" in found.message


def test_a_stage_that_never_began_in_time_is_not_the_candidates_fault() -> None:
    held = waiting("ImagePullBackOff", 'Back-off pulling image "reg/compress:1"')
    found = result_of(broken(), pod(held, phase="Failed", reason="DeadlineExceeded"))
    assert found.reason is Reason.INTERRUPTED
    assert "ImagePullBackOff" in found.message
    unknown = terminated(137, "", "ContainerStatusUnknown")
    assert (
        result_of(broken(), pod(unknown, phase="Failed", reason="DeadlineExceeded")).reason
        is Reason.INTERRUPTED
    )
    bare = pod(phase="Failed", reason="DeadlineExceeded")
    del bare["status"]["initContainerStatuses"], bare["status"]["containerStatuses"]
    assert result_of(broken(), bare).reason is Reason.INTERRUPTED


def test_a_result_that_the_store_did_not_take_in_time_is_not_the_candidates_fault() -> None:
    late = pod(terminated(), terminated(0), terminated(137), phase="Failed", reason="DeadlineExceeded")
    assert result_of(broken(BENCHMARKING), late).reason is Reason.STORE_UNAVAILABLE


def test_a_retain_pod_whose_time_is_over_has_timed_out() -> None:
    late = pod(phase="Failed", reason="DeadlineExceeded")
    del late["spec"]["initContainers"], late["status"]["initContainerStatuses"]
    assert result_of(broken(Work(-1, "retain")), late).reason is Reason.TIMED_OUT


@pytest.mark.parametrize(
    "reason", ["EvictionByEvictionAPI", "PreemptionByScheduler", "DeletionByTaintManager"]
)
def test_a_pod_that_was_disrupted_is_interrupted_whatever_its_exit_codes_say(reason: str) -> None:
    gone = pod(
        terminated(), terminated(137), phase="Failed", conditions=(condition("DisruptionTarget", reason),)
    )
    assert result_of(broken(), gone).reason is Reason.INTERRUPTED


def test_an_evicted_pod_is_interrupted_and_says_why() -> None:
    gone = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    found = result_of(broken(), gone)
    assert found.reason is Reason.INTERRUPTED
    assert "low on resource: memory" in found.message


@pytest.mark.parametrize("code", [137, 143])
def test_a_pod_that_somebody_deletes_is_interrupted(code: int) -> None:
    gone = pod(terminated(), terminated(code), phase="Failed")
    gone["metadata"]["deletionTimestamp"] = ENDED
    assert result_of(broken(), gone).reason is Reason.INTERRUPTED


def test_a_failed_job_whose_pod_is_gone_is_tried_again() -> None:
    assert result_of(broken(reason="BackoffLimitExceeded")).reason is Reason.INTERRUPTED


def test_a_pod_that_failed_without_a_container_is_tried_again() -> None:
    refused = pod(phase="Failed", reason="UnexpectedAdmissionError", message="Allocate failed: no device")
    del refused["status"]["initContainerStatuses"], refused["status"]["containerStatuses"]
    found = result_of(broken(reason="BackoffLimitExceeded"), refused)
    assert found.reason is Reason.INTERRUPTED
    assert "no device" in found.message


@pytest.mark.parametrize("name", ["fetch", "upload"])
def test_a_store_that_does_not_answer_is_told_by_the_container_that_tried(name: str) -> None:
    state = terminated(75, failed(Reason.STORE_UNAVAILABLE, "http://mlflow:5000: 503"))
    states = (
        {"fetch": state}
        if name == "fetch"
        else {"fetch": terminated(), "stage": terminated(), "upload": state}
    )
    found = result_of(broken(reason="BackoffLimitExceeded"), pod(**states, phase="Failed"))
    assert (found.reason, found.message) == (Reason.STORE_UNAVAILABLE, "http://mlflow:5000: 503")


def test_what_is_the_users_to_cure_comes_with_its_reason() -> None:
    state = terminated(65, failed(Reason.DATA_UNREADABLE, "s3://b/e.npz: access denied"))
    found = result_of(broken(Work(-1, INTAKE)), pod(state, phase="Failed"))
    assert (found.reason, found.message) == (Reason.DATA_UNREADABLE, "s3://b/e.npz: access denied")


@pytest.mark.parametrize("message", ["Traceback ...\nMemoryError", "", "{}"])
def test_a_fetch_that_dies_without_a_result_is_tried_again_and_says_what_is_known(message: str) -> None:
    found = result_of(broken(), pod(terminated(137, message, "OOMKilled"), phase="Failed"))
    assert found.reason is Reason.INTERRUPTED
    assert "fetch ended with exit code 137 (OOMKilled)" in found.message


def test_a_job_that_is_about_to_fail_has_no_result_yet() -> None:
    soon = job(conditions=[condition("FailureTarget", "PodFailurePolicy")])
    found = seen(soon, pod(terminated(), terminated(1), phase="Failed"))
    assert found.result is None
    assert found.waits == ""


def test_a_condition_that_does_not_hold_ends_nothing() -> None:
    assert seen(job(conditions=[{**condition("Failed"), "status": "False"}]), pod()).result is None


# --- it waits ---------------------------------------------------------------------------------------------


def test_a_suspended_job_is_queued_without_a_deadline() -> None:
    held = job(conditions=[condition("Suspended", "JobSuspended")])
    held["spec"]["suspend"] = True
    found = seen(held)
    assert (found.waits, found.since) == (jobs.QUEUED, None)
    assert "suspended" in found.message


def test_a_pod_that_fits_no_node_is_unschedulable_since_it_was_created() -> None:
    found = seen(job(), unscheduled("Unschedulable", "0/3 nodes are available: 3 Insufficient cpu."))
    assert found.waits == jobs.UNSCHEDULABLE
    assert found.message == "0/3 nodes are available: 3 Insufficient cpu."
    assert found.since == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_a_pod_that_the_quota_refuses_is_told_with_the_servers_words() -> None:
    text = 'Error creating: pods "toy-0007-compress-0-x" is forbidden: exceeded quota: team'
    found = seen(job(), refusal=text)
    assert (found.waits, found.message) == (jobs.QUOTA, text)
    assert found.since == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_what_the_kubelet_says_of_a_pod_that_does_not_start_is_told() -> None:
    creating = pod(phase="Pending")
    text = 'MountVolume.SetUp failed for volume "secret-model" : secret "paretune-models" not found'
    found = seen(job(), creating, refusal=text)
    assert (found.waits, found.message) == ("ContainerCreating", text)


def test_a_pod_is_being_created_from_when_a_node_took_it() -> None:
    creating = pod(phase="Pending")
    assert jobs.creating_since(creating) is None
    taken = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-03-01T10:00:05Z"}
    creating["status"]["conditions"] = [taken]
    assert jobs.creating_since(creating) == datetime(2026, 3, 1, 10, 0, 5, tzinfo=UTC)
    creating["status"]["phase"] = "Running"
    assert jobs.creating_since(creating) is None


def test_a_job_whose_pod_is_not_there_yet_says_so() -> None:
    assert seen(job()).waits == jobs.NO_POD


def test_a_job_whose_pod_is_being_deleted_waits_for_the_next_one() -> None:
    leaving = pod(terminated(), running())
    leaving["metadata"]["deletionTimestamp"] = ENDED
    assert seen(job(), leaving).waits == jobs.NO_POD


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("ErrImagePull", "not found"),
        ("ImagePullBackOff", 'Back-off pulling image "reg/compress:1"'),
        ("CreateContainerConfigError", 'secret "paretune-model" not found'),
        ("InvalidImageName", ""),
    ],
)
@pytest.mark.parametrize("step", ["fetch", "stage", "upload"])
def test_a_container_that_cannot_start_says_why(reason: str, message: str, step: str) -> None:
    before = {"fetch": terminated(), "stage": terminated()} if step == "upload" else {}
    before = {"fetch": terminated()} if step == "stage" else before
    found = seen(job(), pod(**{**before, step: waiting(reason, message)}, phase="Pending"))
    assert found.waits == reason
    assert step in found.message
    assert message in found.message
    assert found.since is not None


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_a_pod_that_is_being_prepared_does_not_wait(reason: str) -> None:
    assert seen(job(), pod(waiting(reason), phase="Pending")).waits == ""


def test_a_pod_whose_init_containers_run_is_pending_and_does_not_wait() -> None:
    assert seen(job(), pod(running(), phase="Pending")).waits == ""
    assert seen(job(), pod(terminated(), running(), phase="Pending")).waits == ""


def test_a_pod_without_any_status_does_not_wait() -> None:
    fresh = pod(node="")
    fresh["status"] = {}
    assert seen(job(), fresh).waits == ""


def test_times_are_read_with_and_without_fractions() -> None:
    assert jobs.moment("2026-03-01T10:00:00Z") == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert jobs.moment("2026-03-01T10:00:00.250000Z") == datetime(2026, 3, 1, 10, 0, 0, 250_000, tzinfo=UTC)
    assert jobs.moment("") is None
    assert jobs.moment(None) is None
