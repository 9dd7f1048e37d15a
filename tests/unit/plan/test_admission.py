"""Is a study accepted in this cluster? Refusals name field, value and cure."""

from typing import Any

import pytest
from paretune.api import OptimizationStudy, Runtime
from paretune.api.meta import LabelSelector
from paretune.plan import admission
from paretune.plan.admission import Cluster, Refusal
from unit.cluster.objects import pool, study

MLFLOW = "http://mlflow:5000"
POOLS = {
    "default": pool("default"),
    "pi": pool("pi", threads=4),
    "coral": pool("coral", runtime="edgetpu"),
    "npu": pool("npu", runtime="ethos-u", target="ethos-u55-128"),
    "lab": pool("lab", namespaces={"matchLabels": {"team": "lab"}}),
}


def cluster(**fields: Any) -> Cluster:
    known = {"pools": POOLS, "servers": (MLFLOW,), "default_server": MLFLOW}
    return Cluster(**{**known, **fields})


def device(**fields: Any) -> OptimizationStudy:
    return study(
        devices=[{"name": "d", **fields}],
        objectives=[{"metric": "accuracy"}, {"metric": "latency", "device": "d"}],
    )


def refused(one: OptimizationStudy, seen: Cluster | None = None) -> Refusal:
    found = admission.refusal(one, seen or cluster())
    assert found is not None
    return found


def test_a_study_that_fits_is_accepted() -> None:
    assert admission.refusal(study(), cluster()) is None
    assert admission.refusal(device(pool="pi"), cluster()) is None


# --- tracking and store -----------------------------------------------------------------------------------


def test_a_server_that_the_installation_does_not_list_is_refused_with_those_that_it_does() -> None:
    found = refused(study(tracking={"uri": "http://evil:5000"}))
    assert found.reason == "TrackingNotAllowed"
    for words in ("spec.tracking.uri", "http://evil:5000", MLFLOW):
        assert words in found.message


@pytest.mark.parametrize("uri", [MLFLOW, MLFLOW + "/"])
def test_a_slash_at_the_end_of_a_server_does_not_matter(uri: str) -> None:
    assert admission.refusal(study(tracking={"uri": uri}), cluster()) is None
    assert admission.refusal(study(tracking={"uri": MLFLOW}), cluster(servers=(uri,))) is None


def test_without_a_server_a_study_needs_a_store_of_its_own() -> None:
    bare = cluster(servers=(), default_server="")
    found = refused(study(), bare)
    assert found.reason == "NoStore"
    for words in ("spec.artifacts.uri", "s3", "pvc", "spec.tracking.uri"):
        assert words in found.message
    assert admission.refusal(study(artifacts={"uri": "s3://b/p"}), bare) is None


def test_the_server_of_a_study_is_its_own_or_the_default() -> None:
    assert admission.server_of(study(), cluster()) == MLFLOW
    other = "http://other:5000"
    assert admission.server_of(study(tracking={"uri": other}), cluster()) == other


# --- pools ------------------------------------------------------------------------------------------------


def test_a_pool_that_is_not_there_is_refused_with_those_that_are() -> None:
    found = refused(device(pool="pie"))
    assert found.reason == "PoolNotFound"
    for words in ("spec.devices[0].pool", "pie", "coral, default, lab, npu, pi"):
        assert words in found.message


def test_the_implied_device_needs_the_default_pool() -> None:
    found = refused(study(), cluster(pools={}))
    assert (found.reason, "default" in found.message) == ("PoolNotFound", True)


def test_a_pool_of_other_namespaces_is_refused_with_those_of_this_one() -> None:
    found = refused(device(pool="lab"))
    assert found.reason == "PoolNotAllowed"
    for words in (
        "spec.devices[0].pool",
        "lab",
        "namespace team",
        "spec.namespaces",
        "coral, default, npu, pi",
    ):
        assert words in found.message
    assert admission.refusal(device(pool="lab"), cluster(namespace_labels={"team": "lab"})) is None


@pytest.mark.parametrize("fields", [{}, {"runtime": "litert"}, {"runtime": "edgetpu"}])
def test_a_device_that_the_study_describes_is_refused_where_the_admin_wants_pools(fields: dict) -> None:
    found = refused(device(**fields))
    assert found.reason == "InlinePoolNotAllowed"
    for words in ("spec.devices[0]", "device d", "coral, default, lab, npu, pi"):
        assert words in found.message
    assert admission.refusal(device(**fields), cluster(inline_pools=True)) is None


@pytest.mark.parametrize("fields", [{"runtime": "tflm"}, {"runtime": "ethos-u", "target": "ethos-u55-128"}])
def test_an_estimator_needs_no_pool(fields: dict) -> None:
    assert admission.refusal(device(**fields), cluster()) is None


def test_the_device_cpu_needs_no_pool_as_long_as_it_is_one() -> None:
    def named(**fields: Any) -> OptimizationStudy:
        return study(devices=[{"name": "cpu", **fields}])

    assert admission.refusal(named(), cluster()) is None
    assert admission.refusal(named(runtime="litert", threads=4), cluster()) is None
    assert refused(named(runtime="edgetpu")).reason == "InlinePoolNotAllowed"


def test_the_second_of_two_devices_is_named_by_its_place() -> None:
    one = study(
        devices=[{"name": "a", "pool": "pi"}, {"name": "b", "pool": "gone"}],
        objectives=[{"metric": "latency", "device": "a"}],
    )
    assert "spec.devices[1].pool" in refused(one).message


def test_devices_take_runtime_target_and_threads_from_their_pools() -> None:
    one = study(
        devices=[
            {"name": "a", "pool": "pi"},
            {"name": "b", "pool": "pi", "threads": 1},
            {"name": "c", "pool": "npu"},
            {"name": "e", "runtime": "ethos-u", "target": "ethos-u85-512"},
        ],
        objectives=[{"metric": "latency", "device": "a"}],
    )
    found = admission.devices(one, cluster())
    assert {n: (d.pool, d.runtime, d.target, d.threads) for n, d in found.items()} == {
        "a": ("pi", Runtime.LITERT, None, 4),
        "b": ("pi", Runtime.LITERT, None, 1),
        "c": ("npu", Runtime.ETHOS_U, "ethos-u55-128", 1),
        "e": ("default", Runtime.ETHOS_U, "ethos-u85-512", 1),
    }


# --- runtimes ---------------------------------------------------------------------------------------------


def schemes(*names: str, runs_on: str = "coral") -> OptimizationStudy:
    return study(
        devices=[{"name": "d", "pool": runs_on}],
        objectives=[{"metric": "latency", "device": "d"}],
        space={"quantization": {"schemes": list(names)}},
    )


def test_schemes_that_the_runtime_of_a_pool_cannot_run_are_refused_with_those_that_it_can() -> None:
    found = refused(schemes("none", "float16", "int8", "int16x8"))
    assert found.reason == "RuntimeMismatch"
    for words in (
        "spec.space.quantization.schemes",
        "device d",
        "pool coral",
        "edgetpu",
        "float16, int16x8",
        "runs int8",
    ):
        assert words in found.message
    assert admission.refusal(schemes("none", "int8"), cluster()) is None
    assert admission.refusal(schemes("float16", runs_on="pi"), cluster()) is None


def test_schemes_that_the_study_leaves_open_are_no_reason_against_it() -> None:
    assert admission.refusal(device(pool="coral"), cluster()) is None


def test_sparse_files_are_refused_where_the_runtime_of_a_pool_reads_dense_ones_only() -> None:
    def asked(pool: str) -> OptimizationStudy:
        return study(
            devices=[{"name": "d", "pool": pool}],
            objectives=[{"metric": "latency", "device": "d"}],
            dataset={part: {"uri": f"s3://data/{part}.npz"} for part in ("train", "evaluation")},
            space={"sparsity": {"encodings": ["dense", "sparse"]}},
        )

    found = refused(asked("coral"))
    assert found.reason == "RuntimeMismatch"
    for words in ("spec.space.sparsity.encodings", "device d", "pool coral", "edgetpu", "leave sparse out"):
        assert words in found.message
    assert admission.refusal(asked("pi"), cluster()) is None


# --- claims -----------------------------------------------------------------------------------------------


def claimed() -> OptimizationStudy:
    return study(
        model={"uri": "pvc://models/m.keras"},
        dataset={"evaluation": {"uri": "pvc://data/e.npz"}, "test": {"uri": "pvc://data/t.npz"}},
    )


ALLOWED = {"paretune.dev/allow": "true"}


def test_a_claim_that_is_not_there_is_refused_with_the_field_and_the_namespace() -> None:
    found = refused(claimed(), cluster(claims={"models": None, "data": ALLOWED}))
    assert found.reason == "ClaimNotFound"
    for words in ("spec.model.uri", "PersistentVolumeClaim models", "namespace team", "create it"):
        assert words in found.message


@pytest.mark.parametrize("labels", [{}, {"paretune.dev/allow": "false"}, {"allow": "true"}])
def test_a_claim_without_the_label_is_refused_with_how_to_label_it(labels: dict) -> None:
    found = refused(claimed(), cluster(claims={"models": ALLOWED, "data": labels}))
    assert found.reason == "ClaimNotAllowed"
    for words in (
        "spec.dataset.evaluation.uri, spec.dataset.test.uri",
        'paretune.dev/allow: "true"',
        "kubectl label pvc data paretune.dev/allow=true",
    ):
        assert words in found.message


def test_claims_that_are_allowed_are_no_reason_against_a_study() -> None:
    assert admission.refusal(claimed(), cluster(claims={"models": ALLOWED, "data": ALLOWED})) is None


# --- selectors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ({}, {}, True),
        ({}, {"a": "1"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "1", "b": "2"}, True),
        ({"matchLabels": {"a": "1"}}, {"a": "2"}, False),
        ({"matchLabels": {"a": "1"}}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, {"a": "2"}, True),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {"a": "1"}, False),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": ""}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}, False),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {}, True),
        ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {"a": "1"}, False),
        (
            {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]},
            {"a": "1"},
            False,
        ),
    ],
)
def test_labels_are_selected_as_kubernetes_selects_them(selector: dict, labels: dict, selected: bool) -> None:
    assert admission.selects(LabelSelector.model_validate(selector), labels) is selected
