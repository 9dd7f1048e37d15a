"""What Prometheus reads, and which API request is counted as what."""

import pytest
from kubernetes import client
from paretune.cluster.metrics import OperatorMetrics, States, count_requests, request_labels
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families


def _metrics(**changes: object) -> OperatorMetrics:
    sources = {
        "states": lambda: States(studies={"Running": 2}, trials={"Complete": 40, "Failed": 1}),
        "watch_ages": lambda: {"jobs": 3.5},
        "backlog": lambda: {"http://mlflow:5000": 7},
        "leading": lambda: True,
        "queue_depth": lambda: 4,
    }
    return OperatorMetrics(**(sources | changes))  # type: ignore[arg-type]


def _samples(metrics: OperatorMetrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def _value(metrics: OperatorMetrics, name: str, **labels: str) -> float:
    return _samples(metrics)[name, frozenset(labels.items())]


def test_gauges_are_read_when_they_are_asked_for() -> None:
    studies = {"Running": 1}
    metrics = _metrics(states=lambda: States(studies=studies, trials={}))
    assert _value(metrics, "paretune_studies", state="Running") == 1

    studies["Running"] = 9
    assert _value(metrics, "paretune_studies", state="Running") == 9


def test_every_state_of_a_trial_is_there_even_when_no_trial_is_in_it() -> None:
    metrics = _metrics()

    assert _value(metrics, "paretune_trials", state="Complete") == 40
    assert _value(metrics, "paretune_trials", state="Benchmarking") == 0


def test_the_process_around_the_reconciles_is_told() -> None:
    metrics = _metrics()

    assert _value(metrics, "paretune_watch_age_seconds", resource="jobs") == 3.5
    assert _value(metrics, "paretune_tracking_backlog", server="http://mlflow:5000") == 7
    assert _value(metrics, "paretune_reconcile_queue") == 4
    assert _value(metrics, "paretune_leader") == 1
    assert _value(_metrics(leading=lambda: False), "paretune_leader") == 0


def test_reconciles_are_counted_by_how_they_ended() -> None:
    metrics = _metrics()
    assert _value(metrics, "paretune_reconcile_seconds_count", result="conflict") == 0
    assert _value(metrics, "paretune_last_reconcile_timestamp_seconds") == 0

    metrics.reconciled("ok", 0.03)
    metrics.reconciled("ok", 0.3)
    metrics.reconciled("error", 3)

    assert _value(metrics, "paretune_reconcile_seconds_count", result="ok") == 2
    assert _value(metrics, "paretune_reconcile_seconds_bucket", result="ok", le="0.05") == 1
    assert _value(metrics, "paretune_reconcile_seconds_sum", result="error") == 3
    assert _value(metrics, "paretune_last_reconcile_timestamp_seconds") > 1.7e9


def test_time_in_a_state_is_never_negative() -> None:
    metrics = _metrics()
    metrics.trial_left("Queued", -0.2)  # the clocks of two machines
    metrics.trial_left("Queued", 50)

    assert _value(metrics, "paretune_trial_state_seconds_sum", state="Queued") == 50
    assert _value(metrics, "paretune_trial_state_seconds_bucket", state="Queued", le="60.0") == 2


def test_the_names_are_the_documented_ones() -> None:
    metrics = _metrics()
    metrics.trial_left("Queued", 1)
    metrics.api_request("get", "pods", 200)
    text = generate_latest(metrics.registry).decode()

    names = {family.name for family in text_string_to_metric_families(text)}

    assert {name for name in names if not name.startswith("process_")} == {
        "paretune_studies",
        "paretune_trials",
        "paretune_trial_state_seconds",
        "paretune_reconcile_seconds",
        "paretune_api_requests",
        "paretune_watch_age_seconds",
        "paretune_tracking_backlog",
        "paretune_leader",
        "paretune_reconcile_queue",
        "paretune_last_reconcile_timestamp_seconds",
    }
    assert 'paretune_api_requests_total{code="200",resource="pods",verb="get"} 1.0' in text


def test_two_operators_in_one_process_do_not_share_their_metrics() -> None:
    one, other = _metrics(), _metrics()
    one.reconciled("ok", 1)

    assert _value(other, "paretune_reconcile_seconds_count", result="ok") == 0


PARETUNE = "/apis/paretune.dev/v1alpha1"


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        ("GET", f"{PARETUNE}/optimizationstudies", ("list", "optimizationstudies")),
        ("GET", f"{PARETUNE}/optimizationstudies?limit=5&watch=true", ("watch", "optimizationstudies")),
        ("GET", "https://10.96.0.1:443/api/v1/pods?watch=True&labelSelector=a", ("watch", "pods")),
        ("GET", f"{PARETUNE}/namespaces/ml/optimizationtrials/kws-0001", ("get", "optimizationtrials")),
        ("GET", "/api/v1/namespaces/ml/pods/kws-0001-x/log?tailLines=9", ("get", "pods/log")),
        (
            "PATCH",
            f"{PARETUNE}/namespaces/ml/optimizationtrials/kws-0001/status",
            ("patch", "optimizationtrials/status"),
        ),
        ("POST", "/apis/batch/v1/namespaces/ml/jobs", ("create", "jobs")),
        ("DELETE", "/apis/batch/v1/namespaces/ml/jobs/kws-0001-compress-0", ("delete", "jobs")),
        ("DELETE", "/apis/batch/v1/namespaces/ml/jobs", ("deletecollection", "jobs")),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/paretune/leases/paretune",
            ("update", "leases"),
        ),
        ("GET", "/api/v1/namespaces/ml", ("get", "namespaces")),
        ("GET", "/api/v1/namespaces", ("list", "namespaces")),
        ("GET", f"{PARETUNE}/devicepools/pi", ("get", "devicepools")),
        ("GET", "/version", ("get", "other")),
        ("GET", "/apis/paretune.dev/v1alpha1", ("get", "other")),
    ],
)
def test_a_request_has_the_verb_and_resource_of_the_api(
    method: str, url: str, expected: tuple[str, str]
) -> None:
    assert request_labels(method, url) == expected


def test_requests_without_an_answer_count_with_code_0() -> None:
    metrics = _metrics()
    configuration = client.Configuration(host="http://127.0.0.1:1")
    configuration.retries = False
    api = client.ApiClient(configuration)
    count_requests(api, metrics)

    with pytest.raises(Exception, match="refused"):
        client.CustomObjectsApi(api).list_namespaced_custom_object(
            "paretune.dev", "v1alpha1", "ml", "studies"
        )

    assert _value(metrics, "paretune_api_requests_total", verb="list", resource="studies", code="0") == 1
