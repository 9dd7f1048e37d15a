"""Records of trials that the world keeps from going on."""

import pytest
from paretune.api import OptimizationTrial, State
from paretune.api.trial import TrialStatus
from paretune.plan import transitions
from paretune.plan.observed import Work
from paretune_contract.failure import Reason
from paretune_contract.stages import BENCHMARK, COMPRESS, CompressResult, Result, Step
from unit.search.toy_study import record

NOW = "2026-03-01T10:00:00Z"
WORK = Work(1, COMPRESS)
DOWN = Result(reason=Reason.STORE_UNAVAILABLE, message="http://mlflow:5000: 503")
INSPECTION = {"tensors": [], "dtypes": {"INT8": 5}, "sparsity": 0.5, "inputs": ["A"], "outputs": ["A"]}
SEVEN = {"value": 7, "low": 7, "high": 7}
GONE = Result(reason=Reason.INTERRUPTED, message="The pod was evicted: memory")


def trial(state: State = State.COMPRESSING, **fields: object) -> OptimizationTrial:
    one = record(1, state=state)
    status = TrialStatus(state=state, started=NOW).model_copy(update=fields)
    return one if one.final else one.model_copy(update={"status": status})


def ended(
    one: OptimizationTrial, result: Result, work: Work = WORK, coder: str = "paretune-1"
) -> OptimizationTrial:
    return transitions.finished(one, work, result, record(0), NOW, coder)


# --- postponed --------------------------------------------------------------------------------------------


def test_a_postponed_trial_is_pending_and_says_why_and_counts_the_attempt() -> None:
    status = transitions.postponed(trial(attempts=1), DOWN).status
    assert (status.state, status.reason, status.message) == (State.PENDING, "StoreUnavailable", DOWN.message)
    assert status.attempts == 2
    assert status.started == NOW


def test_a_store_that_is_down_for_long_fails_no_trial() -> None:
    one = trial()
    for _ in range(50):
        one = transitions.postponed(one, DOWN)
    assert one.status.state is State.PENDING
    assert one.status.attempts == 50


def test_a_record_that_is_final_only_counts_the_attempt() -> None:
    one = record(1)
    after = transitions.postponed(one, DOWN)
    assert after.status == one.status.model_copy(update={"attempts": 1})
    assert after.final


def test_a_long_message_fits_the_record() -> None:
    long = Result(reason=Reason.INTERRUPTED, message="x" * 5000)
    assert len(transitions.postponed(trial(), long).status.message) == transitions.MESSAGE_LIMIT


def test_the_plan_takes_a_postponed_trial_up_again() -> None:
    again = transitions.started(transitions.postponed(trial(), GONE), WORK, "2026-03-01T12:00:00Z")
    assert (again.status.state, again.status.reason, again.status.message) == (State.COMPRESSING, "", "")
    assert again.status.started == NOW, "when it began first"


# --- finished ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [DOWN, GONE])
def test_what_the_world_did_is_tried_again_three_times(result: Result) -> None:
    one = trial()
    for attempt in (1, 2, 3):
        one = ended(one, result)
        assert (one.status.state, one.status.attempts) == (State.PENDING, attempt)
    one = ended(one, result)
    assert one.status.state is State.FAILED
    assert one.status.reason == result.reason
    assert "(4 attempts)" in one.status.message
    assert one.status.finished == NOW


def test_each_cause_has_tries_of_its_own() -> None:
    one = trial()
    for _ in range(20):  # a store that was down for long
        one = transitions.postponed(one, DOWN)
    one = ended(one, Result(reason=Reason.OUT_OF_MEMORY, message="killed"))
    for _ in range(3):
        one = ended(one, GONE)
        assert one.status.state is State.PENDING
    assert (one.status.attempts, one.status.retries) == (24, {"OutOfMemory": 1, "Interrupted": 3})
    assert ended(one, GONE).status.state is State.FAILED


def test_a_stage_that_ends_well_gives_the_next_one_all_tries_again() -> None:
    one = ended(ended(trial(), GONE), GONE)
    sha = "0" * 64
    made = CompressResult.model_validate(
        {
            "artifact": {"path": "c.tflite", "sha256": sha, "bytes": 9},
            "inspection": INSPECTION,
            "coder": "paretune-1",
        }
    )
    after = ended(one, made)
    assert (after.status.attempts, after.status.retries) == (2, {}), "names of Jobs are not used again"


def test_a_stage_that_was_killed_is_tried_once_more() -> None:
    killed = Result(reason=Reason.OUT_OF_MEMORY, message="killed")
    again = ended(trial(), killed)
    assert again.status.state is State.PENDING
    assert ended(again, killed).status.state is State.FAILED


@pytest.mark.parametrize(
    "reason", [Reason.CRASHED, Reason.TIMED_OUT, Reason.STEP_FAILED, Reason.NOT_RUNNABLE, Reason.INTERNAL]
)
def test_what_a_candidate_did_is_a_result_at_once(reason: Reason) -> None:
    steps = (Step(name="convert", seconds=1.0),)
    after = ended(trial(), Result(reason=reason, message="why", steps=steps))
    assert (after.status.state, after.status.reason, after.status.message) == (State.FAILED, reason, "why")
    assert after.status.steps == steps
    assert after.status.attempts == 0


def test_a_pool_that_took_the_benchmark_too_late_fails_the_trial_with_the_pools_name() -> None:
    late = Result(reason=Reason.UNSCHEDULABLE, message="no node took it for 3600 s")
    after = ended(trial(State.QUEUED), late, Work(1, BENCHMARK, "pi"))
    assert (after.status.state, after.status.reason) == (State.FAILED, "Unschedulable")
    assert "on pool pi" in after.status.message


def test_rounds_after_the_search_that_cannot_be_measured_leave_the_verdict_as_it_is() -> None:
    one = record(1)
    late = Result(reason=Reason.UNSCHEDULABLE, message="no node")
    after = ended(one, late, Work(1, BENCHMARK, "pi", final=True))
    assert after.status.state is one.status.state
    assert after.status.metrics == one.status.metrics
    assert after.status.final is not None
    assert after.status.final.faults == {"pi": "Unschedulable: no node"}


# --- waiting ----------------------------------------------------------------------------------------------


def test_a_trial_that_waits_is_queued_and_says_for_what() -> None:
    after = transitions.waiting(trial(State.PENDING), "Unschedulable", "0/3 nodes are available" + "." * 2000)
    assert (after.status.state, after.status.reason) == (State.QUEUED, "Unschedulable")
    assert after.status.message.startswith("0/3 nodes")
    assert len(after.status.message) == transitions.MESSAGE_LIMIT
    assert after.status.attempts == 0


def test_waiting_for_the_same_twice_is_the_same_record() -> None:
    once = transitions.waiting(trial(), "Queued", "it waits")
    assert transitions.waiting(once, "Queued", "it waits") == once


def test_a_trial_that_waited_begins_without_its_reason() -> None:
    after = transitions.started(
        transitions.waiting(trial(), "Queued", "it waits"), Work(1, BENCHMARK, "pi"), NOW
    )
    assert (after.status.state, after.status.reason, after.status.message) == (State.BENCHMARKING, "", "")


def test_a_final_record_does_not_wait_and_does_not_begin() -> None:
    one = record(1)
    assert transitions.waiting(one, "Queued", "it waits") is one
    assert transitions.started(one, Work(1, BENCHMARK, "pi", final=True), NOW) is one


def test_a_record_that_waits_is_never_changed_in_place() -> None:
    one = trial()
    transitions.waiting(one, "Queued", "x")
    transitions.postponed(one, DOWN)
    assert one == trial()


# --- results that fit no record ---------------------------------------------------------------------------


def made(**fields: object) -> CompressResult:
    plain = {"artifact": {"path": "/c", "sha256": "a" * 64, "bytes": 7}, "coder": "paretune-1"}
    return CompressResult.model_validate({**plain, **fields})


def test_a_result_that_fits_joins_the_record() -> None:
    after = ended(trial(), made(inspection=INSPECTION))
    assert after.status.state is State.COMPRESSING
    assert after.status.artifact is not None
    assert (after.status.artifact.bytes, after.status.dtypes) == (7, {"INT8": 5})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"artifact": {"path": "/c", "sha256": "a" * 64, "bytes": -1}}, "bytes"),
        ({"inspection": {**INSPECTION, "sparsity": 1.5}}, "sparsity"),
        ({"inspection": {**INSPECTION, "dtypes": {f"T{n}": 1 for n in range(40)}}}, "dtypes"),
    ],
)
def test_a_result_that_the_api_server_would_refuse_is_a_fault_of_the_stage(fields: dict, field: str) -> None:
    after = ended(trial(), made(**fields))
    assert (after.status.state, after.status.reason) == (State.FAILED, "Crashed")
    assert field in after.status.message
    assert TrialStatus.model_validate(after.status.model_dump()) == after.status


def test_steps_of_many_attempts_are_cut_and_do_not_fail_the_trial() -> None:
    steps = tuple(Step(name=f"s{n}", seconds=1.0) for n in range(60))
    after = ended(trial(steps=steps), made(steps=steps))
    assert after.status.artifact is not None
    assert len(after.status.steps) == 64
    assert after.status.steps[:60] == steps


# --- sizes by another coder -------------------------------------------------------------------------------


@pytest.mark.parametrize("found", ["zstd-22", ""])
def test_a_size_by_another_coder_than_the_studys_fails_the_trial(found: str) -> None:
    steps = (Step(name="quantize", seconds=1.5),)
    after = ended(trial(), made(coder=found, metrics={"downloadSize": SEVEN}, steps=steps))
    assert (after.status.state, after.status.reason) == (State.FAILED, "Internal")
    assert f"by the coder {found or 'none'}, the study's is paretune-1" in after.status.message
    assert after.status.metrics == {}, "nothing that could be compared"
    assert after.status.artifact is None
    assert after.status.steps == steps


def test_a_study_of_an_earlier_coder_takes_its_sizes() -> None:
    after = ended(trial(), made(coder="zstd-22", metrics={"downloadSize": SEVEN}), coder="zstd-22")
    assert after.status.state is State.COMPRESSING
    assert after.status.coder == "zstd-22"
    assert after.status.metrics["downloadSize"].value == 7


def test_a_failure_stays_the_failure_that_it_is_whatever_the_coder() -> None:
    failed = CompressResult(reason=Reason.NO_EFFECT, message="the setting left no trace")
    assert ended(trial(), failed).status.reason == "NoEffect"
