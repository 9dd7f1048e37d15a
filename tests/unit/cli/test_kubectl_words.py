"""What `kubectl paretune` says of a study that was read, without a cluster."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from paretune.api import State
from paretune.cli.errors import BadInput
from paretune.cli.kubectl.explain import pod_line
from paretune.cli.kubectl.overview import overview, seconds_left, studies_table
from paretune.cli.kubectl.study import ReadStudy
from paretune.cli.kubectl.words import age, phase, short, why
from rich.console import Console
from unit.search import toy_study

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def condition(kind: str, status: str = "True", reason: str = "AsAsked") -> dict[str, str]:
    then = (NOW - timedelta(minutes=5)).isoformat()
    return {"type": kind, "status": status, "reason": reason, "message": "m.", "lastTransitionTime": then}


def raw(*conditions: dict[str, str], **fields: Any) -> dict[str, Any]:
    created = (NOW - timedelta(hours=3)).isoformat()
    metadata = {"name": "toy", "namespace": "ml", "uid": "u-1", "creationTimestamp": created}
    return {
        "metadata": metadata | fields.pop("metadata", {}),
        "spec": fields.pop("spec", {}),
        "status": {"conditions": list(conditions), **fields},
    }


def read(count: int = 12, *, running: int = 0, **status: Any) -> ReadStudy:
    study = toy_study.study(toy_study.spec(budget={"trials": 40, "maxDuration": "6h"}))
    study = study.model_copy(update={"status": study.status.model_copy(update=status)})
    trials = toy_study.search(study.spec, count)
    for number in range(count, count + running):
        trials.append(toy_study.record(number, state=State.BENCHMARKING))
    return ReadStudy(raw=raw(condition("Progressing")), study=study, trials=tuple(trials))


def shown(renderable: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        (raw(), "Pending"),
        (raw(condition("Ready"), condition("Progressing")), "Running"),
        (raw(condition("Ready", "False", "DataMismatch")), "NotReady"),
        (raw(condition("Progressing"), spec={"suspend": True}), "Suspended"),
        (raw(condition("Progressing", "False"), condition("Complete")), "Complete"),
        (raw(condition("Complete", "False"), condition("Failed")), "Failed"),
        (raw(condition("Complete"), metadata={"deletionTimestamp": "now"}), "Deleting"),
        ({"metadata": {"name": "new"}, "spec": {}}, "Pending"),
    ],
)
def test_conditions_are_told_in_one_word(study: dict[str, Any], expected: str) -> None:
    assert phase(study) == expected


def test_the_reason_is_that_of_the_condition_behind_the_phase() -> None:
    assert why(raw(condition("Ready", "False", "DataMismatch"))) == "DataMismatch"
    assert why(raw(spec={"suspend": True})) == ""


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (3 * 3600 + 600, "3h10m"), (7200, "2h"),
     (86400 + 3600, "1d1h"), (10 * 86400 + 5000, "10d"), (-3, "0s")],
)  # fmt: skip
def test_durations_are_short(seconds: float, expected: str) -> None:
    assert short(seconds) == expected


def test_an_age_needs_a_time() -> None:
    assert age("", NOW) == ""
    assert age("2026-05-04T11:00:00Z", NOW) == "60m"


def test_a_study_is_shown_with_its_budget_what_runs_and_its_front() -> None:
    study = read(12, running=2, active_seconds=3600.0)

    text = shown(overview(study, NOW))

    assert "12 of 40, 4 at a time" in text
    assert "60m of 6h" in text
    assert text.count("Benchmarking") == 2
    assert "Pareto front of toy" in text
    front = study.need_front()
    for entry in front.front:
        assert entry.settings.sentence() in text
    assert "latencyRatio/cpu" not in text


def test_wide_shows_all_metrics_and_where_trials_run() -> None:
    pod = {
        "metadata": {"name": "toy-0012-benchmark-cpu-0-abcde", "labels": {"paretune.dev/trial": "12"}},
        "spec": {"nodeName": "node-7"},
    }
    text = shown(overview(read(12, running=1), NOW, wide=True, pods=[pod]))

    assert "node-7" in text
    assert "latencyRatio/cpu" in text


def test_a_live_picture_spares_the_conditions_while_nothing_is_the_matter() -> None:
    study = read(3)
    assert "Conditions" in shown(overview(study, NOW))
    live = shown(overview(study, NOW, live="about 5m left"))
    assert "Conditions" not in live
    assert "about 5m left" in live

    failing = ReadStudy(raw(condition("Ready", "False", "DataMismatch")), study.study, study.trials)
    assert "DataMismatch" in shown(overview(failing, NOW, live=""))


def test_a_study_without_a_baseline_is_shown_without_a_front() -> None:
    study = read(0)

    assert "0 of 40" in shown(overview(study, NOW))
    with pytest.raises(BadInput, match="baseline"):
        study.need_front()


def test_text_of_a_cluster_is_never_taken_for_markup() -> None:
    study = raw(condition("Ready", "False", "DataMismatch"), best="[red]a[/red]")
    study["metadata"]["name"] = "x"

    assert "[red]a[/red]" in shown(studies_table([study], NOW, namespaces=True, wide=True))


def test_the_time_left_is_told_once_there_is_a_pace() -> None:
    assert seconds_left(read(1, active_seconds=60.0)) == ""
    assert seconds_left(read(10, active_seconds=600.0)) == "about 30m left"


def test_a_trial_is_found_by_number_name_and_alias() -> None:
    study = read(12)

    assert study.trial("7").number == 7
    assert study.trial("0007").number == 7
    assert study.trial("toy-0007").number == 7
    assert study.trial("knee").number in {entry.trial for entry in study.need_front().front}
    assert study.trial("best-accuracy").status.metrics["accuracy"].value == max(
        entry.metrics["accuracy"].value for entry in study.need_front().front
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("12", "trials 0 to 11"), ("kws-0001", "neither a number"), ("best-speed", "best-latency-cpu")],
)
def test_a_trial_that_is_not_there_is_bad_input(text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read(12).trial(text)


def test_a_pod_that_waits_says_for_what() -> None:
    waiting = {
        "name": "fetch",
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}},
    }
    pod = {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Pending", "initContainerStatuses": [waiting]},
    }
    assert pod_line(pod) == "pod p: Pending on n1, ImagePullBackOff: no such tag"


def test_a_pod_that_fits_no_node_says_so() -> None:
    unplaced = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available.",
    }
    pod = {"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Pending", "conditions": [unplaced]}}
    assert pod_line(pod) == "pod p: Pending, Unschedulable: 0/3 nodes are available."


def test_a_pod_that_runs_needs_no_reason() -> None:
    placed = {"type": "PodScheduled", "status": "True"}
    starting = {"name": "stage", "state": {"waiting": {"reason": "PodInitializing"}}}
    pod = {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Running", "conditions": [placed], "containerStatuses": [starting]},
    }
    assert pod_line(pod) == "pod p: Running on n1"
