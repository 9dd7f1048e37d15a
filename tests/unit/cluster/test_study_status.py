"""A study's status: conditions with their times, counts, the best, and what is worth a write."""

import pytest
from paretune.api import State
from paretune.api.study import StoreStatus, StudyStatus
from paretune.cluster import status
from paretune.cluster.status import Fact
from paretune.plan.actions import Finish, Plan
from paretune.search.front import front_document
from paretune.search.objectives import resolve
from paretune_contract.settings import Quantization, Scheme, Settings
from unit.cluster.objects import UID, study
from unit.search.toy_study import record

THEN, NOW = "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"
NEW = StudyStatus()
PHASES = ["Searching", "Draining", "Measuring the front", "Suspended", "Finished"]


def truths(facts: tuple[Fact, ...]) -> dict[str, str]:
    return {f.type: f.status for f in facts}


def reasons(facts: tuple[Fact, ...]) -> dict[str, str]:
    return {f.type: f.reason for f in facts}


def at(facts: tuple[Fact, ...], now: str, before: StudyStatus = NEW, generation: int = 1) -> StudyStatus:
    return status.with_conditions(before, facts, generation, now)


# --- conditions -------------------------------------------------------------------------------------------


def test_the_time_of_a_condition_moves_only_when_its_status_does() -> None:
    before = at(status.reading("a"), THEN)
    same = at(status.reading("b"), NOW, before)
    assert {c.last_transition_time for c in same.conditions} == {THEN}
    assert same.conditions[0].message == "b"
    after = at(status.working("Searching", None, before), NOW, before)
    times = {c.type: c.last_transition_time for c in after.conditions}
    assert times == {"Ready": NOW, "Progressing": THEN, "Complete": THEN, "Failed": THEN}


def test_a_new_reason_alone_does_not_move_the_time() -> None:
    before = at((Fact("Progressing", "False", "StoreUnavailable"),), THEN)
    after = at((Fact("Progressing", "False", "Suspended"),), NOW, before)
    assert (after.conditions[0].reason, after.conditions[0].last_transition_time) == ("Suspended", THEN)


def test_every_condition_says_for_which_generation_it_was_decided() -> None:
    after = at(status.reading("a"), THEN, generation=7)
    assert {c.observed_generation for c in after.conditions} == {7}
    assert after.observed_generation == 7


def test_conditions_that_no_fact_speaks_of_stay() -> None:
    before = at((Fact("Published", "True", "Published"),), THEN)
    after = at(status.reading("a"), NOW, before)
    assert next(c for c in after.conditions if c.type == "Published") == before.conditions[0]


def test_the_same_facts_twice_are_the_same_status() -> None:
    long = status.refused("Why", "because " * 1000)
    before = at(long, THEN)
    assert at(long, NOW, before) == before
    assert len(before.conditions[0].message) == 2048


def test_a_refused_study_is_not_ready_and_is_neither_complete_nor_failed() -> None:
    facts = status.refused("PoolNotFound", "spec.devices[0].pool: there is no DevicePool x")
    assert truths(facts) == dict.fromkeys(("Ready", "Progressing", "Complete", "Failed"), "False")
    assert set(reasons(facts).values()) == {"PoolNotFound"}
    assert facts[0].message.startswith("spec.devices[0].pool")


def test_a_study_that_is_being_read_is_neither_ready_nor_refused() -> None:
    assert truths(status.reading("x")) == {
        "Ready": "Unknown", "Progressing": "True", "Complete": "False", "Failed": "False",
    }  # fmt: skip


@pytest.mark.parametrize("phase", [*PHASES, Plan().phase])
def test_every_phase_is_a_reason_in_camel_case(phase: str) -> None:
    for fact in status.working(phase, None, StudyStatus(progress="3/60")):
        assert fact.reason.isalnum()
        assert fact.reason[0].isupper()
    facts = status.working(phase, None, StudyStatus(progress="3/60"))
    assert truths(facts) == {"Ready": "True", "Progressing": "True", "Complete": "False", "Failed": "False"}
    assert "3/60" in facts[1].message


def test_measuring_the_front_is_told_in_words() -> None:
    assert (
        reasons(status.working("Measuring the front", None, StudyStatus()))["Progressing"]
        == "MeasuringTheFront"
    )


def test_while_the_store_does_not_answer_the_study_says_so() -> None:
    down = StudyStatus(store=StoreStatus(failures=2, message="http://mlflow:5000: 503"))
    facts = status.working("Searching", None, down)
    assert truths(facts)["Progressing"] == "False"
    assert reasons(facts)["Progressing"] == "StoreUnavailable"
    assert facts[1].message == "http://mlflow:5000: 503"


@pytest.mark.parametrize(
    ("finish", "complete", "failed"),
    [
        (Finish("BudgetSpent", "60 trials."), "True", "False"),
        (Finish("BaselineFailed", "it crashed", failed=True), "False", "True"),
        (Finish("Suspended", "spec.suspend is true"), "False", "False"),
    ],
)
def test_a_study_that_does_not_go_on_says_how_it_ended(finish: Finish, complete: str, failed: str) -> None:
    facts = status.working("Finished", finish, StudyStatus())
    assert truths(facts) == {"Ready": "True", "Progressing": "False", "Complete": complete, "Failed": failed}
    assert set(reasons(facts).values()) == {"Accepted", finish.reason}
    assert finish.message in {f.message for f in facts}


# --- numbers ----------------------------------------------------------------------------------------------


def trials() -> list:
    def scheme(one: Scheme) -> Settings:
        return Settings(quantization=Quantization(scheme=one))

    return [
        record(0),
        record(1, scheme(Scheme.INT8)),
        record(2, scheme(Scheme.FLOAT16)),
        record(3, scheme(Scheme.INT4), state=State.INFEASIBLE),
        record(4, scheme(Scheme.DYNAMIC), state=State.FAILED),
        record(5, scheme(Scheme.INT16X8), state=State.COMPRESSING),
        record(6, scheme(Scheme.INT8), state=State.PENDING),
    ]


def test_counts_progress_front_and_best_are_those_of_the_records() -> None:
    one, found = study(budget={"trials": 60}), trials()
    objectives = resolve(one.spec)
    front = front_document(one, UID, 0, objectives, found)
    after = status.counted(one, StudyStatus(), found, objectives, front)
    assert after.progress == "5/60"
    assert after.trials.model_dump() == {
        "running": 2, "complete": 3, "infeasible": 1, "pruned": 0, "failed": 1,
        "duplicate": front.counts.duplicate,
    }  # fmt: skip
    assert after.front == tuple(sorted(e.trial for e in front.front))
    assert after.hypervolume == front.hypervolume.value
    assert "accuracy" in after.best
    assert "(#" in after.best


def test_the_best_of_each_objective_is_the_best_in_its_own_direction() -> None:
    one, found = study(), trials()
    objectives = resolve(one.spec)
    front = front_document(one, UID, 0, objectives, found)
    words = status.best(front, objectives)
    accuracy = 2  # float16: as accurate as the baseline, and half its size
    size = min(found[:3], key=lambda t: t.status.metrics["downloadSize"].value).number
    assert words.startswith("accuracy")
    assert f"(#{accuracy})" in words.split(", ")[0]
    assert f"(#{size})" in words.partition("downloadSize")[2].split("latency")[0]


def test_without_a_front_the_best_of_before_stays() -> None:
    one = study()
    after = status.counted(one, StudyStatus(best="accuracy 0.9 (#0)"), [], resolve(one.spec), None)
    assert after.best == "accuracy 0.9 (#0)"
    assert after.progress == "0/60"


def test_progress_of_a_budget_that_was_lowered_does_not_exceed_one() -> None:
    one = study(budget={"trials": 2})
    after = status.counted(one, StudyStatus(), trials(), resolve(one.spec), None)
    assert after.progress == "5/7"


# --- is it worth a write ----------------------------------------------------------------------------------


def test_a_status_that_is_the_same_is_not_written() -> None:
    one = at(status.reading("a"), THEN)
    assert status.changed(one, at(status.reading("a"), NOW, one)) == "no"


@pytest.mark.parametrize(
    "update",
    [{"progress": "4/60"}, {"best": "x"}, {"active_seconds": 601.0}, {"hypervolume": 0.5}],
)
def test_numbers_can_wait(update: dict) -> None:
    one = at(status.working("Searching", None, StudyStatus(progress="3/60")), THEN)
    assert status.changed(one, one.model_copy(update=update)) == "progress"


def test_that_time_has_passed_is_no_change() -> None:
    one = at(status.working("Searching", None, StudyStatus(progress="3/60")), THEN)
    assert status.changed(one, one.model_copy(update={"active_seconds": 500.0})) == "no"


def test_a_message_of_a_condition_can_wait() -> None:
    one = at(status.reading("a"), THEN)
    assert status.changed(one, at(status.reading("b"), NOW, one)) == "progress"


@pytest.mark.parametrize(
    "update",
    [
        {"seed": 1},
        {"attempts": {"intake": 1}},
        {"store": StoreStatus(failures=1)},
        {"exhausted": True},
        {"published": "x"},
        {"retained": "x"},
        {"observed_generation": 3},
        {"conditions": ()},
    ],
)
def test_a_new_state_is_written_at_once(update: dict) -> None:
    one = at(status.reading("a"), THEN)
    assert status.changed(one, one.model_copy(update=update)) == "state"
