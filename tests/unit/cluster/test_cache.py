"""What is known of a study's children between lists. The API server is only asked for lists here."""

from datetime import UTC, datetime
from typing import Any

import pytest
from paretune.cluster import names, observe
from paretune.cluster.api import JOBS, PODS, POOLS, TRIALS, Resource
from paretune.cluster.cache import RELIST, Cache
from paretune.plan.observed import Work
from unit.cluster.objects import study

UID = "9d1f7a52-0000-4000-8000-000000000001"


class Lists:
    """Answers lists, and counts them."""

    def __init__(self) -> None:
        self.content: dict[Resource, list[dict[str, Any]]] = {TRIALS: [], JOBS: [], PODS: [], POOLS: []}
        self.asked: list[Resource] = []

    def list(self, resource: Resource, *_: object, **__: object) -> list[dict[str, Any]]:
        self.asked.append(resource)
        return list(self.content[resource])


def record(number: int, version: int, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "paretune.dev/v1alpha1",
        "kind": "OptimizationTrial",
        "metadata": {
            "name": f"kws-{number:04d}",
            "namespace": "ml",
            "uid": f"trial-{number}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-25T10:00:00Z",
            "labels": names.study_labels("kws", UID),
            "managedFields": [{"manager": "x"}],
        },
        "spec": {"studyName": "kws", "number": number, "settings": {}, "ask": {"seed": 1, "seen": ""}},
        "status": status,
    }


def job(version: int, pool: str = "", uid: str = "job-1", **status: Any) -> dict[str, Any]:
    stage = "benchmark" if pool else "compress"
    labels = names.work_labels("kws", UID, Work(1, stage, "d0" if pool else ""), 0, pool)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "kws-0001-compress-0",
            "namespace": "ml",
            "uid": uid,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-03-01T09:00:00Z",
            "labels": labels,
        },
        "spec": {"template": {"spec": {}}},
        "status": status,
    }


def pod(version: int, phase: str) -> dict[str, Any]:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "job-1"}
    return {
        "metadata": {
            "name": "p",
            "namespace": "ml",
            "uid": "pod-1",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-03-01T09:00:00Z",
            "labels": names.study_labels("kws", UID),
            "ownerReferences": [owner],
        },
        "spec": {"nodeName": "n"},
        "status": {"phase": phase},
    }


@pytest.fixture
def lists() -> Lists:
    return Lists()


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
def cache(lists: Lists, clock: list[float]) -> Cache:
    return Cache(lists, clock=lambda: clock[0])  # type: ignore[arg-type]


def states(cache: Cache) -> dict[int, str]:
    return {r.trial.number: r.trial.status.state.value for r in cache.children("ml", "kws")[0]}


def test_the_first_look_lists_and_the_next_ones_do_not(cache: Cache, lists: Lists) -> None:
    lists.content[TRIALS] = [record(0, 5, state="Complete")]
    assert states(cache) == {0: "Complete"}
    assert states(cache) == {0: "Complete"}
    assert lists.asked == [TRIALS, JOBS, PODS]


def test_an_event_changes_what_is_known(cache: Cache) -> None:
    states(cache)
    cache.seen(TRIALS, record(0, 5))
    cache.seen(TRIALS, record(0, 6, state="Benchmarking"))
    assert states(cache) == {0: "Benchmarking"}


def test_an_event_that_is_older_than_a_write_of_our_own_is_not_taken(cache: Cache) -> None:
    states(cache)
    cache.seen(TRIALS, record(0, 9, state="Complete"))
    kept = cache.seen(TRIALS, record(0, 5, state="Benchmarking"))
    assert kept.trial.status.state.value == "Complete"
    assert states(cache) == {0: "Complete"}


def test_versions_are_compared_as_numbers(cache: Cache) -> None:
    states(cache)
    cache.seen(TRIALS, record(0, 99, state="Benchmarking"))
    cache.seen(TRIALS, record(0, 100, state="Complete"))
    assert states(cache) == {0: "Complete"}


def test_an_event_does_not_bring_back_what_this_process_deleted(cache: Cache) -> None:
    cache.children("ml", "kws")
    cache.seen(JOBS, job(5))
    cache.deleted(JOBS, "ml", "kws", "job-1")
    assert cache.seen(JOBS, job(6)) is None
    assert cache.children("ml", "kws")[1] == []


def test_a_deletion_by_somebody_else_is_noticed(cache: Cache) -> None:
    states(cache)
    cache.seen(TRIALS, record(0, 5))
    before = cache.changes("ml", "kws")
    cache.gone(TRIALS, record(0, 6))
    assert states(cache) == {}
    assert cache.changes("ml", "kws") > before


def test_a_list_after_a_while_mends_what_a_watch_has_lost(
    cache: Cache, lists: Lists, clock: list[float]
) -> None:
    cache.children("ml", "kws")
    cache.seen(TRIALS, record(0, 5))
    cache.seen(TRIALS, record(1, 6))
    clock[0] += RELIST + 1
    lists.content[TRIALS] = [record(1, 7, state="Complete")]
    assert states(cache) == {1: "Complete"}


def test_a_list_does_not_bring_back_what_went_while_it_was_on_its_way(cache: Cache) -> None:
    class Slow(Lists):
        def list(self, resource: Resource, *more: object, **fields: object) -> list[dict[str, Any]]:
            found = super().list(resource, *more, **fields)
            if resource is JOBS:
                cache.gone(JOBS, job(6))
            return found

    slow = Slow()
    slow.content[JOBS] = [job(5)]
    cache._api = slow  # type: ignore[assignment]
    assert cache.children("ml", "kws")[1] == []


def test_what_the_api_server_refused_is_listed_at_the_next_look(cache: Cache, lists: Lists) -> None:
    states(cache)
    cache.doubt("ml", "kws")
    lists.content[TRIALS] = [record(0, 5, state="Complete")]
    assert states(cache) == {0: "Complete"}


def test_a_record_that_cannot_be_read_is_named_and_does_not_hide_the_jobs(cache: Cache, lists: Lists) -> None:
    cache.children("ml", "kws")
    cache.seen(TRIALS, record(0, 5, state="Complete", flavor="sweet"))
    cache.seen(JOBS, job(6))
    found, now = study("kws", metadata={"namespace": "ml", "uid": UID}), datetime(2026, 3, 1, tzinfo=UTC)
    api: Any = lists
    with pytest.raises(observe.NotUnderstood, match=r"kws-0000: status\.flavor"):
        observe.children(api, cache, found, now)
    assert [j.uid for j in observe.jobs_of(api, cache, found, now)] == ["job-1"]


def test_a_finished_job_is_told_by_its_pods_as_they_are_at_the_server(cache: Cache, lists: Lists) -> None:
    """The Job's event may come before the pod's."""
    cache.children("ml", "kws")
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-03-01T10:00:00Z"}
    cache.seen(JOBS, job(9, conditions=[complete]))
    cache.seen(PODS, pod(7, "Running"))
    lists.content[PODS] = [pod(8, "Succeeded")]
    lists.asked.clear()
    found, now = study("kws", metadata={"namespace": "ml", "uid": UID}), datetime(2026, 3, 1, tzinfo=UTC)
    api: Any = lists
    observe.children(api, cache, found, now)
    assert lists.asked == [PODS]
    observe.children(api, cache, found, now)
    assert lists.asked == [PODS], "once it is known, nobody is asked"


def test_the_same_version_again_is_no_change(cache: Cache) -> None:
    states(cache)
    cache.seen(TRIALS, record(0, 5))
    before = cache.changes("ml", "kws")
    cache.seen(TRIALS, record(0, 5))
    assert cache.changes("ml", "kws") == before


def test_objects_without_a_study_are_left_alone(cache: Cache) -> None:
    other = job(5)
    other["metadata"]["labels"] = {}
    assert cache.seen(JOBS, other) is None
    cache.gone(JOBS, other)


def test_a_study_that_is_gone_leaves_nothing(cache: Cache, lists: Lists) -> None:
    states(cache)
    cache.seen(TRIALS, record(0, 5))
    cache.forget("ml", "kws")
    assert states(cache) == {}
    assert lists.asked.count(TRIALS) == 2


def test_benchmarks_of_a_pool_are_counted_over_all_studies(cache: Cache, lists: Lists) -> None:
    lists.content[JOBS] = [job(5, "pi", "job-1"), job(6, "coral", "job-2"), job(7, "", "job-3")]
    assert [j["metadata"]["uid"] for j in cache.benchmarks("pi")] == ["job-1"]
    cache.seen(JOBS, job(8, "pi", "job-4"))
    assert {j["metadata"]["uid"] for j in cache.benchmarks("pi")} == {"job-1", "job-4"}
    assert lists.asked == [JOBS]


def test_a_record_begins_with_its_object(cache: Cache) -> None:
    trial = cache.seen(TRIALS, record(0, 5)).trial
    assert (trial.status.state.value, trial.status.started) == ("Compressing", "2026-11-25T10:00:00Z")


def test_a_record_that_was_put_aside_is_read_again(cache: Cache) -> None:
    states(cache)
    known = cache.seen(TRIALS, record(0, 5, state="Complete"))
    first = known.trial
    assert known.trial is first
    cache.release("ml", "kws")
    assert known.trial is not first
    assert known.trial == first
