"""Trial records, device pools and URIs as documents."""

from pathlib import Path

import pytest
from paretune.api import DevicePool, OptimizationTrial, State
from paretune.api.faults import Fault, path_text, suggestion
from paretune.api.metrics import BUILT_IN, Goal, Unit, in_unit, metric_named
from paretune.api.uris import is_local, local_path, tracking_complaint
from paretune_contract.measurement import DEVICE_METRICS, QUALITY_METRICS, SIZE_METRICS, Measurement
from pydantic import ValidationError

ASK = {"seed": 7, "seen": "0-41,43"}
RECORD = {
    "metadata": {"name": "kws-0044"},
    "spec": {"studyName": "kws", "number": 44, "settings": {"quantization": {"scheme": "int8"}}, "ask": ASK},
}


def trial(**status: object) -> OptimizationTrial:
    return OptimizationTrial.model_validate({**RECORD, "status": status})


def test_a_record_reads_back_as_it_was_written() -> None:
    metrics = {f"latency/pool-{i}": Measurement(value=1 / 3, low=0.3, high=0.4) for i in range(8)}
    written = trial(state="Complete", metrics=metrics, message="done", attempts=1)

    assert OptimizationTrial.model_validate_json(written.model_dump_json(by_alias=True)) == written


@pytest.mark.parametrize("state", list(State))
def test_the_last_four_states_are_final(state: State) -> None:
    assert trial(state=state).final == (state in list(State)[4:])


@pytest.mark.parametrize("seen", ["", "0", "0-41", "0-41,43,45-60"])
def test_seen_trials_are_ranges(seen: str) -> None:
    assert OptimizationTrial.model_validate(
        {**RECORD, "spec": {**RECORD["spec"], "ask": {**ASK, "seen": seen}}}
    )


@pytest.mark.parametrize("ask", [{**ASK, "seen": "0..4"}, {**ASK, "seen": "1,"}, {**ASK, "seed": 2**32}])
def test_an_ask_that_cannot_be_replayed_is_refused(ask: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        OptimizationTrial.model_validate({**RECORD, "spec": {**RECORD["spec"], "ask": ask}})


def test_a_long_message_is_clipped_so_that_the_record_stays_small() -> None:
    assert len(trial(state="Failed", message="x" * 10**6).status.message) == 2048


def test_the_pool_of_the_design_is_accepted() -> None:
    pool = DevicePool.model_validate(
        {
            "metadata": {"name": "raspberry-pi-4"},
            "spec": {
                "runtime": "litert",
                "nodeSelector": {"kubernetes.io/arch": "arm64"},
                "affinity": {"podAffinity": {}},
                "tolerations": [{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}],
                "resources": {"limits": {"cpu": "4", "memory": "1Gi", "vendor.com/device": 1}},
                "maxConcurrent": 2,
                "pendingDeadline": "1h",
                "namespaces": {"matchLabels": {"team": "edge"}},
            },
        }
    )

    assert pool.spec.resources.limits["vendor.com/device"] == 1
    assert DevicePool.model_validate({"metadata": {"name": "p"}}).spec.pending_deadline == "1h"


@pytest.mark.parametrize(
    "wrong",
    [
        {"maxConcurrent": 0},
        {"pendingDeadline": 0.5},
        {"resources": {"limits": {"cpu": "four"}}},
        {"image": " x"},
    ],
)
def test_a_pool_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DevicePool.model_validate({"metadata": {"name": "p"}, "spec": wrong})


def test_every_metric_of_the_contract_is_built_in() -> None:
    assert set(BUILT_IN) == QUALITY_METRICS | SIZE_METRICS | DEVICE_METRICS
    assert {m.name for m in BUILT_IN.values() if m.on_device} == DEVICE_METRICS


def test_a_metric_of_ones_own_needs_a_goal() -> None:
    assert metric_named("f1", Goal.MAXIMIZE).goal is Goal.MAXIMIZE
    with pytest.raises(ValueError, match="goal: minimize or maximize"):
        metric_named("f1")


@pytest.mark.parametrize(
    ("bound", "unit", "value"),
    [("20ms", Unit.SECONDS, 0.02), ("64KiB", Unit.BYTES, 65536), ("0.5", Unit.NONE, 0.5)],
)
def test_a_bound_is_read_in_its_metrics_unit(bound: str, unit: Unit, value: float) -> None:
    assert in_unit(bound, unit) == pytest.approx(value)


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("a/b.npz", "/base/a/b.npz"),
        ("/abs/b.npz", "/abs/b.npz"),
        ("file:///abs/two%20words", "/abs/two words"),
        ("file:rel.npz", "/base/rel.npz"),
        ("C:model.keras", "/base/C:model.keras"),
        ("s3://b/k", None),
        ("models:/kws/1", None),
    ],
)
def test_local_uris_are_relative_to_the_manifest(uri: str, path: str | None) -> None:
    assert local_path(uri, Path("/base")) == (Path(path) if path else None)
    assert is_local(uri) == (path is not None)


@pytest.mark.parametrize(
    "uri", ["", "http://mlflow:5000", "sqlite:///m.db", "postgresql+psycopg2://u@h/db", "databricks"]
)
def test_stores_that_mlflow_knows_are_accepted(uri: str) -> None:
    assert tracking_complaint(uri) == ""


def test_paths_quote_names_that_are_no_words() -> None:
    assert (
        path_text(("spec", "resources", "limits", "nvidia.com/gpu", 0))
        == 'spec.resources.limits["nvidia.com/gpu"][0]'
    )


def test_a_fault_is_one_line_that_shows_the_value() -> None:
    assert (
        str(Fault("spec.x", "y" * 200, "expected z", 3)) == 'spec.x: "' + "y" * 78 + "…: expected z (line 3)"
    )


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("max_drop", "maxDrop"),
        ("maxdrop", "maxDrop"),
        ("maxDrpo", "maxDrop"),
        ("atLest", "atLeast"),
        ("zzz", ""),
    ],
)
def test_the_nearest_known_word_is_suggested(word: str, near: str) -> None:
    assert suggestion(word, ["maxDrop", "atLeast"]) == (f"; did you mean {near}?" if near else "")
