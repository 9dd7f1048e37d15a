"""Names and labels of children: deterministic, distinct, and what the API server takes."""

import re

import pytest
from paretune.cluster import names
from paretune.plan.observed import Work
from paretune.search.asking import next_trial
from paretune.search.objectives import resolve
from paretune.search.space import available
from paretune_contract.stages import BENCHMARK, COMPRESS, EVALUATE, INTAKE
from unit.cluster.objects import UID, study
from unit.search.toy_study import intake

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
DEVICE = "d" * 63
WORKS = [
    Work(-1, INTAKE),
    Work(-1, "publish"),
    Work(-1, "retain"),
    Work(-1, "purge"),
    Work(0, COMPRESS),
    Work(7, COMPRESS),
    Work(10_000, COMPRESS),
    Work(7, BENCHMARK, "pi"),
    Work(7, BENCHMARK, "pi", final=True),
    Work(7, BENCHMARK, "pi-0"),
    Work(7, BENCHMARK, DEVICE),
    Work(7, BENCHMARK, DEVICE, final=True),
    Work(7, EVALUATE, final=True),
]
STUDIES = [
    "a",
    "digits",
    "v1.2-digits",
    "x" * 253,
    "x" * 252 + "y",
    ".".join(["y" * 50] * 4),
    *("z" * n + ".e" + "z" * 60 for n in range(36, 55)),
    *("z" * n + "--e" + "z" * 60 for n in range(36, 55)),
]


@pytest.mark.parametrize("name", STUDIES, ids=lambda n: f"{n[:12]}:{len(n)}")
def test_every_name_is_one_that_the_api_server_takes(name: str) -> None:
    for work in WORKS:
        found = names.job_name(name, work, 0)
        assert len(found) <= 63, found
        assert SUBDOMAIN.fullmatch(found), found
        assert LABEL_VALUE.fullmatch(found), f"{found} is the pod's label job-name"
    trial = names.trial_name(name, 7)
    assert len(trial) <= 253
    assert SUBDOMAIN.fullmatch(trial)


@pytest.mark.parametrize("name", STUDIES, ids=lambda n: f"{n[:12]}:{len(n)}")
def test_every_label_is_one_that_the_api_server_takes(name: str) -> None:
    for work in WORKS:
        for key, value in names.work_labels(name, UID, work, 12, pool="p." * 126 + "p").items():
            assert len(value) <= 63, (key, value)
            assert LABEL_VALUE.fullmatch(value), (key, value)


@pytest.mark.parametrize("name", ["digits", "x" * 253])
def test_works_attempts_and_trials_never_share_a_name(name: str) -> None:
    jobs = [names.job_name(name, work, attempt) for work in WORKS for attempt in range(12)]
    trials = [names.trial_name(name, number) for number in range(1000)]
    assert len({*jobs, *trials}) == len(jobs) + len(trials)
    tasks = [names.task_name(work) for work in WORKS]
    assert len(set(tasks)) == len(tasks)


def test_studies_that_differ_at_the_end_of_long_names_differ_in_label_and_job() -> None:
    first, second = "x" * 252 + "a", "x" * 252 + "b"
    work = Work(0, COMPRESS)
    assert names.job_name(first, work, 0) != names.job_name(second, work, 0)
    assert names.study_labels(first, UID)[names.STUDY] != names.study_labels(second, UID)[names.STUDY]


def test_names_are_as_documented() -> None:
    assert names.trial_name("digits", 7) == "digits-0007"
    assert names.job_name("digits", Work(-1, INTAKE), 0) == "digits-intake-0"
    assert names.job_name("digits", Work(7, COMPRESS), 1) == "digits-0007-compress-1"
    assert names.job_name("digits", Work(7, EVALUATE, final=True), 0) == "digits-0007-evaluate-0"
    assert names.job_name("digits", Work(7, BENCHMARK, "pi"), 2) == "digits-0007-benchmark-pi-2"
    assert names.job_name("digits", Work(7, BENCHMARK, "pi", final=True), 2) == "digits-0007-final-pi-2"
    assert names.task_name(Work(7, BENCHMARK, "pi")) == "0007-benchmark-pi"


def test_a_name_that_fits_is_left_alone_and_one_more_character_is_not() -> None:
    assert names.fitting("n" * 63, 63) == "n" * 63
    cut = names.fitting("n" * 64, 63)
    assert len(cut) == 63
    assert re.fullmatch(r"n{54}-[0-9a-f]{8}", cut)


@pytest.mark.parametrize("work", WORKS, ids=str)
@pytest.mark.parametrize("attempt", [0, 3, 12])
def test_labels_tell_the_work_and_the_attempt_that_they_were_made_for(work: Work, attempt: int) -> None:
    labels = names.work_labels("digits", UID, work, attempt, pool="boards" if work.pool else "")
    assert names.work_of(labels, {"pi": 1, "pi-0": 1, DEVICE: 1}) == work
    assert names.attempt_of(labels) == attempt


def test_labels_of_somebody_else_tell_no_work() -> None:
    assert names.work_of({"app.kubernetes.io/managed-by": "helm"}, {}) is None


def test_an_attempt_that_is_no_number_counts_as_the_first() -> None:
    assert names.attempt_of({names.ATTEMPT: "x"}) == 0
    assert names.attempt_of({}) == 0


def test_an_owner_reference_holds_name_and_uid() -> None:
    parent = {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "uid": "u", "labels": {}}}
    found = names.owner(parent)
    assert (found["apiVersion"], found["kind"], found["name"], found["uid"]) == ("v1", "K", "n", "u")
    assert found["controller"] is True
    assert found["blockOwnerDeletion"] is True


def test_the_search_asks_for_trials_of_a_study_with_the_longest_name() -> None:
    long = study("x" * 253)
    space, objectives = available(long.spec, intake()), resolve(long.spec)
    trial = next_trial(long, space, objectives, 0, [], 0)
    assert trial.metadata.name == names.trial_name("x" * 253, 0)
    assert len(trial.metadata.name) == 253
