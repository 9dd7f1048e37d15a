"""ServiceMonitor, alerts, dashboard and NetworkPolicies, against the metrics that the operator exports."""

import json
import re
from typing import Any

import pytest
from paretune.api.trial import State
from paretune.cluster.metrics import OperatorMetrics, States
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.chart import EVERYTHING, NAMESPACE, ROOT, render

OWN_LABELS = {"job", "namespace", "pod", "instance"}
"""Labels that Prometheus adds."""


def _exported() -> dict[str, set[str]]:
    """Labels by name of sample, from an exporter that has seen one of everything."""
    metrics = OperatorMetrics(
        states=lambda: States(studies={"Running": 1}, trials={}),
        watch_ages=lambda: {"jobs": 1.0},
        backlog=lambda: {"http://mlflow": 1},
        leading=lambda: True,
        queue_depth=lambda: 0,
    )
    metrics.trial_left("Compressing", 1.0)
    metrics.reconciled("ok", 0.1)
    metrics.api_request("get", "jobs", 200)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _rules(values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    chosen = values or {"prometheusRule": {"enabled": True}}
    (group,) = render(chosen).one("PrometheusRule", "paretune")["spec"]["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def _dashboard() -> dict[str, Any]:
    document = render(EVERYTHING).one("ConfigMap", "paretune-dashboard")
    board: dict[str, Any] = json.loads(document["data"]["paretune.json"])
    return board


def _queries() -> list[str]:
    board = _dashboard()
    panels = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return [*panels, *(rule["expr"] for rule in _rules())]


def test_every_query_is_about_metrics_and_labels_that_the_operator_exports() -> None:
    exported = _exported()
    queries = _queries()
    assert len(queries) > 20
    for query in queries:
        selected = re.findall(r"(paretune_\w+)\{([^}]*)\}", query)
        assert len(selected) == len(re.findall(r"\bparetune_\w+", query)), f"no selector in {query}"
        for name, selector in selected:
            assert name in exported, query
            matchers = dict(re.findall(r"(\w+)(?:=~|!~|!=|=)\"([^\"]*)\"", selector))
            assert {"job", "namespace"} <= set(matchers), query
            assert set(matchers) <= exported[name] | OWN_LABELS, query
        grouped = {label for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", query) for label in by.split(", ")}
        labels = set().union(*(exported[name] for name, _ in selected)) | OWN_LABELS
        assert grouped <= labels, query
        assert query.count("(") == query.count(")")


def test_every_metric_of_paretune_is_on_the_dashboard() -> None:
    shown = " ".join(t["expr"] for panel in _dashboard()["panels"] for t in panel.get("targets", []))
    families = {re.sub(r"_(bucket|sum|count)$", "", n) for n in _exported() if n.startswith("paretune_")}

    assert len(families) == 10
    assert not {family for family in families if family not in shown}


def test_states_and_results_in_queries_are_those_that_there_are() -> None:
    known = {str(state) for state in State} | {"ok", "error", "conflict"}
    named = {
        word
        for query in _queries()
        for words in re.findall(r"(?:state|result)=~?\"([^\"]*)\"", query)
        for word in words.split("|")
    }

    assert named
    assert named <= known


def test_every_alert_says_what_it_means_how_bad_it_is_and_is_in_the_docs() -> None:
    page = (ROOT / "docs/installing.md").read_text()
    for rule in _rules():
        assert re.fullmatch(r"Paretune\w+", rule["alert"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} == set(rule["annotations"])
        assert re.fullmatch(r"\d+[mh]", rule["for"])
        assert f"`{rule['alert']}`" in page
        assert "OPERATOR" not in rule["expr"]
        for used in re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())):
            assert re.search(rf"by \([^)]*\b{used}\b", rule["expr"]), f"{rule['alert']} has no label {used}"


def test_alerts_are_about_this_release_and_carry_the_labels_of_the_values() -> None:
    rules = _rules(
        {"prometheusRule": {"enabled": True, "labels": {"release": "kps"}, "alertLabels": {"team": "ml"}}}
    )

    assert all(f'job="paretune",namespace="{NAMESPACE}"' in rule["expr"] for rule in rules)
    assert all(rule["labels"]["team"] == "ml" for rule in rules)


def test_the_dashboard_is_found_by_grafanas_sidecar_and_its_panels_do_not_overlap() -> None:
    document = render(EVERYTHING).one("ConfigMap", "paretune-dashboard")
    taken: set[tuple[int, int]] = set()
    for panel in _dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells

    assert document["metadata"]["labels"]["grafana_dashboard"] == "1"
    ids = [panel["id"] for panel in _dashboard()["panels"]]
    assert len(ids) == len(set(ids))


def test_the_service_monitor_finds_the_operators_service_and_not_mlflows() -> None:
    objects = render({**EVERYTHING, "serviceMonitor": {"enabled": True, "labels": {"release": "kps"}}})
    monitor = objects.one("ServiceMonitor", "paretune")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [
        s["metadata"]["name"] for s in objects.all("Service") if wanted <= s["metadata"]["labels"].items()
    ]

    assert found == ["paretune"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] in {port["name"] for port in objects.one("Service", "paretune")["spec"]["ports"]}
    assert monitor["metadata"]["labels"]["release"] == "kps"


def test_monitoring_is_off_unless_it_is_wanted() -> None:
    assert not render().all("ServiceMonitor", "PrometheusRule", "NetworkPolicy")
    assert not render().has("ConfigMap", "paretune-dashboard")


@pytest.mark.parametrize(
    ("values", "allowed"),
    [
        ({}, [{"namespaceSelector": {}}]),
        (
            {"namespaces": ["ml"]},
            [
                {
                    "namespaceSelector": {
                        "matchExpressions": [
                            {
                                "key": "kubernetes.io/metadata.name",
                                "operator": "In",
                                "values": [NAMESPACE, "ml"],
                            }
                        ]
                    }
                }
            ],
        ),
    ],
    ids=["cluster", "named"],
)
def test_mlflow_is_reached_from_namespaces_with_studies_only(values: dict[str, Any], allowed: Any) -> None:
    chosen = {"mlflow": {"enabled": True}, "networkPolicy": {"enabled": True}, **values}
    (ingress,) = render(chosen).one("NetworkPolicy", "paretune-mlflow")["spec"]["ingress"]

    assert ingress["from"] == allowed


def test_egress_is_limited_only_when_the_values_say_what_is_needed() -> None:
    def policy(**more: Any) -> Any:
        values = {"mlflow": {"enabled": True}, "networkPolicy": {"enabled": True, **more}}
        return render(values).one("NetworkPolicy", "paretune")["spec"]

    assert policy()["policyTypes"] == ["Ingress"]
    limited = policy(egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}])
    assert limited["policyTypes"] == ["Ingress", "Egress"]
    assert limited["egress"][-1] == {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}
    assert {port["port"] for port in limited["egress"][0]["ports"]} == {53}


def test_who_reads_metrics_is_the_values() -> None:
    peer = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    values = {"networkPolicy": {"enabled": True, "metricsFrom": peer}}

    (ingress,) = render(values).one("NetworkPolicy", "paretune")["spec"]["ingress"]
    assert ingress["from"] == peer
