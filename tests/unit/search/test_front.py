"""front.json."""

import pytest
from paretune.api import State
from paretune.api.trial import FinalMeasurement
from paretune.search.front import FrontDocument, aliases, front_document, members
from paretune.search.objectives import resolve
from paretune_contract.settings import Settings
from unit.search.toy_study import record, search, spec, study, values

MANIFEST = spec([{"metric": "accuracy", "maxDrop": 0.05}, {"metric": "downloadSize"}, {"metric": "latency"}])
SCHEMES = ("none", "float16", "dynamic", "int8", "int16x8", "int4")


def settings(scheme: str) -> Settings:
    return Settings.model_validate({"quantization": {"scheme": scheme}})


def trial(number, accuracy, size, latency, *, final=None, test=None, **fields):
    fresh = None
    if final is not None or test is not None:
        fresh = FinalMeasurement(
            metrics=values(latency__cpu=final) if final else {}, test=values(accuracy=test) if test else {}
        )
    metrics = values(accuracy=accuracy, downloadSize=size, latency__cpu=latency)
    return record(number, settings(SCHEMES[number]), metrics=metrics, final=fresh, **fields)


def document(trials, manifest=MANIFEST):
    return front_document(study(manifest), "uid-1", 7, resolve(manifest), trials)


def plain(trials, manifest=MANIFEST):
    return document(trials, manifest).model_dump(mode="json", by_alias=True, exclude_none=True)


TRIALS = (
    trial(0, 0.90, 100, 0.010),
    trial(1, 0.89, 30, 0.004),
    trial(2, 0.88, 40, 0.005),
    trial(3, 0.80, 10, 0.004, state=State.INFEASIBLE),
)


def test_the_front_holds_feasible_trials_that_no_other_dominates():
    assert members(resolve(MANIFEST), TRIALS) == (0, 1)


def test_the_document_has_the_published_form():
    written = plain(TRIALS)
    assert list(written) == [
        "schemaVersion", "study", "objectives", "baseline", "front", "counts", "hypervolume",
    ]  # fmt: skip
    assert written["study"] == {"name": "toy", "uid": "uid-1", "seed": 7}
    assert written["objectives"] == [
        {"metric": "accuracy", "goal": "maximize", "maxDrop": 0.05},
        {"metric": "downloadSize", "goal": "minimize"},
        {"metric": "latency", "goal": "minimize"},
    ]
    first = written["front"][0]
    sha256 = TRIALS[1].status.artifact.sha256
    assert first["trial"] == 1
    assert first["settings"] == {"quantization": {"scheme": "float16"}}
    assert first["artifact"] == {"path": f"candidates/{sha256}.tflite", "sha256": sha256, "bytes": 1000}
    assert first["metrics"]["downloadSize"] == {"value": 30.0, "low": 30.0, "high": 30.0}
    assert "test" not in first
    assert written["baseline"]["trial"] == 0
    assert written["baseline"]["metrics"]["accuracy"]["value"] == 0.9
    assert written["counts"] == {"complete": 3, "infeasible": 1, "pruned": 0, "failed": 0, "duplicate": 0}
    assert set(written["hypervolume"]["reference"]) == {"accuracy", "downloadSize", "latency/cpu"}
    assert 0 < written["hypervolume"]["value"] < 1


def test_the_document_reads_back_as_it_was_written():
    text = document(TRIALS).model_dump_json(by_alias=True, exclude_none=True)
    assert FrontDocument.model_validate_json(text) == document(TRIALS)


def test_fresh_values_are_reported_and_test_metrics_stand_apart():
    trials = (trial(0, 0.90, 100, 0.010, final=0.011), trial(1, 0.89, 30, 0.004, final=0.006, test=0.87))
    written = plain(trials)
    assert written["front"][0]["metrics"]["latency/cpu"]["value"] == 0.006
    assert written["front"][0]["test"]["accuracy"]["value"] == 0.87
    assert written["baseline"]["metrics"]["latency/cpu"]["value"] == 0.011


def test_a_lucky_trial_leaves_the_front_when_fresh_rounds_say_so():
    lucky = (trial(0, 0.90, 100, 0.010), trial(1, 0.89, 40, 0.001, final=0.006), trial(2, 0.89, 30, 0.005))
    assert members(resolve(MANIFEST), lucky) == (0, 2)


def test_a_trial_that_fresh_rounds_find_infeasible_leaves_the_front():
    manifest = spec(
        [{"metric": "accuracy"}, {"metric": "downloadSize"}, {"metric": "latency", "atMost": "5ms"}]
    )
    trials = (trial(0, 0.90, 100, 0.010), trial(1, 0.89, 30, 0.0049, final=0.0051), trial(2, 0.8, 20, 0.004))
    assert members(resolve(manifest), trials) == (2,)


def test_equal_bytes_stand_on_the_front_once_even_when_only_the_first_was_measured_again():
    same = "a" * 64
    trials = (
        trial(0, 0.90, 100, 0.010),
        trial(1, 0.89, 30, 0.004, final=0.006, sha256=same),
        trial(2, 0.89, 30, 0.004, sha256=same),
    )
    assert members(resolve(MANIFEST), trials) == (0, 1)
    assert document(trials).counts.duplicate == 1


def test_the_first_four_counts_sum_to_the_final_trials():
    counts = document(
        [*TRIALS, trial(4, 1, 1, 1, state=State.FAILED), trial(5, 1, 1, 1, state=State.PENDING)]
    ).counts
    assert counts.complete + counts.infeasible + counts.pruned + counts.failed == 5


def test_nothing_feasible_is_an_empty_front():
    manifest = spec(
        [{"metric": "accuracy", "atLeast": 0.99}, {"metric": "downloadSize"}, {"metric": "latency"}]
    )
    written = document(TRIALS, manifest)
    assert written.front == ()
    assert aliases(written) == {}
    assert written.hypervolume.value == 0


def test_a_baseline_that_failed_leaves_a_document_without_measurements():
    written = document([record(0, state=State.FAILED, reason="Crashed")])
    assert written.front == ()
    assert written.baseline.artifact is None
    assert written.hypervolume.reference == {}


def test_there_is_no_document_before_the_baseline():
    with pytest.raises(ValueError, match="trial 0"):
        document([record(0, state=State.BENCHMARKING)])


def test_aliases_name_the_knee_and_the_best_of_each_objective():
    found = aliases(document([*TRIALS[:2], trial(2, 0.87, 20, 0.006)]))
    assert found == {"knee": 1, "best-accuracy": 0, "best-downloadSize": 2, "best-latency-cpu": 1}


def test_objectives_know_their_device_with_and_without_its_name():
    manifest = spec(
        [{"metric": "accuracy"}, {"metric": "downloadSize"}, {"metric": "latency", "device": "cpu"}]
    )
    assert document(TRIALS, manifest).names() == ("accuracy", "downloadSize", "latency/cpu")
    assert document(TRIALS).names() == ("accuracy", "downloadSize", "latency/cpu")


def test_a_searched_front_has_no_member_that_dominates_another():
    trials = search(spec(), 30)
    written = front_document(study(spec()), "u", 0, resolve(spec()), trials)
    sizes = [m.metrics["downloadSize"].value for m in written.front]
    assert len(sizes) > 3
    assert sizes == sorted(sizes)
