"""The operator with the rights of the chart's roles alone, watched through the API server's audit log."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.api_server import ApiServer, Document
from support.chart_permissions import Grant, permitted
from support.cluster_study import bound_claim, condition, path, pool, study, trials, wait_for
from support.controlplane import ControlPlane, install_definitions
from support.mlflow_server import closed_port
from support.operator_process import operator
from support.simulated_answers import function_of_settings
from support.simulated_node import Answer, Answers, Fault, PodRun, SimulatedNodes
from support.waiting import until

pytestmark = pytest.mark.timeout(1200)

ALLOWED = {"paretune.dev/allow": "true"}
NOT_ALWAYS: dict[Grant, str] = {
    ("paretune.dev", "optimizationtrials", "get"): "read one by one only when a name is taken already",
    ("batch", "jobs", "get"): "read one by one only when a name is taken already",
    ("paretune.dev", "optimizationstudies/finalizers", "update"): "checked within the creation of a child",
    ("paretune.dev", "optimizationtrials/finalizers", "update"): "checked within the creation of a child",
}
"""Granted, and not asked for in so many words by every study."""


@pytest.fixture(scope="module")
def plane(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with an audit log, which lets nobody block a deletion without the right to do so."""
    if cluster.plane is None:
        pytest.skip("its audit log is read: only on a control plane of our own")
    strict = {"kube-apiserver": ["--enable-admission-plugins=OwnerReferencesPermissionEnforcement"]}
    folder = tmp_path_factory.mktemp("audited")
    with ControlPlane(folder, audit="Metadata", arguments=strict) as found:
        install_definitions(found.kubeconfig)
        yield found


@pytest.fixture
def audited(plane: ControlPlane) -> Iterator[ApiServer]:
    with closing(ApiServer(plane.kubeconfig)) as api:
        yield api


def _asked(plane: ControlPlane, account: str, before: int) -> list[Document]:
    """Requests of an account since a place in the audit log."""
    lines = (plane.logs / "audit.log").read_bytes()[before:].splitlines()
    events = [json.loads(line) for line in lines]
    return [e for e in events if e["user"]["username"] == account and "objectRef" in e]


def _grant(event: Document) -> Grant:
    reference = event["objectRef"]
    resource = "/".join(reference[k] for k in ("resource", "subresource") if k in reference)
    return reference.get("apiGroup", ""), resource, event["verb"]


def _refused(events: list[Document]) -> set[str]:
    """What was answered with 403, by the roles or by an admission plugin that looks at them."""
    return {
        f"{_grant(event)}: {event['responseStatus'].get('message')}"
        for event in events
        if event.get("responseStatus", {}).get("code") == 403
    }


def _answers() -> Callable[[PodRun], Answer]:
    """One candidate crashes: it is told in an Event."""

    def answer(run: PodRun) -> Answer:
        labels = run.labels
        crashes = labels.get("paretune.dev/trial") == "2" and labels["paretune.dev/stage"] == "compress"
        return Fault.CRASH if crashes else function_of_settings(run)

    return answer


def _live(api: ApiServer, namespace: str) -> None:
    """What happens to a study: refused, held up by a quota, searched, continued, published, deleted."""
    quota: Document = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    api.create(quota, namespace)
    manifest = study("kws", budget={"trials": 4, "parallelism": 2}, artifacts={"uri": "pvc://shelf/store"})
    api.create(manifest, namespace)
    wait_for(api, namespace, "kws", "Ready", "False")
    for document in bound_claim(namespace, "shelf", Path("/nowhere"), ALLOWED):
        api.create(document)
    api.patch(path(namespace, "kws"), {"metadata": {"annotations": {"look": "again"}}})
    until(
        lambda: (
            "QuotaExceeded" in condition(api.get(path(namespace, "kws")), "Progressing").get("message", "")
        ),
        120,
        "a study that says QuotaExceeded",
    )
    api.delete(f"/api/v1/namespaces/{namespace}/resourcequotas/none")
    wait_for(api, namespace, "kws", "Complete", seconds=400)
    wait_for(api, namespace, "kws", "Published")
    assert trials(api, namespace)[2]["status"]["reason"] == "Crashed"
    api.patch(path(namespace, "kws"), {"spec": {"budget": {"trials": 6}}})
    until(lambda: len(trials(api, namespace)) == 6, 120)
    wait_for(api, namespace, "kws", "Complete")
    jobs = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    until(lambda: api.get(path(namespace, "kws"))["status"].get("retained"), 120, "the store tidied up")
    api.delete(path(namespace, "kws"))
    until(lambda: api.find(path(namespace, "kws")) is None, 120, "the study gone")
    purged = {"labelSelector": "paretune.dev/stage=purge"}
    until(lambda: any(j["status"].get("succeeded") for j in api.items(jobs, **purged)), 120, "purge")
    reasons = {e["reason"] for e in api.items(f"/api/v1/namespaces/{namespace}/events")}
    assert {"ClaimNotFound", "Accepted", "TrialFailed", "Published"} <= reasons


@pytest.mark.parametrize("named", [False, True], ids=["the whole cluster", "named namespaces"])
def test_a_study_lives_from_apply_to_purge_on_what_the_chart_grants_and_all_of_it_is_needed(
    plane: ControlPlane, audited: ApiServer, tmp_path: Path, named: bool
) -> None:
    api, namespace = audited, "named" if named else "everywhere"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    until(lambda: api.find(f"/api/v1/namespaces/{namespace}/serviceaccounts/default"))
    before = (plane.logs / "audit.log").stat().st_size
    server = f"http://127.0.0.1:{closed_port()}"
    with (
        permitted(api, tmp_path, {"namespaces": [namespace]} if named else {}) as rights,
        SimulatedNodes(api, Answers(_answers())) as nodes,
    ):
        nodes.add("pi-1", labels={"pool": "pool-0"})
        api.apply(pool("pool-0"))
        told = {**rights.config, "tracking": {"servers": [{"uri": server}], "default": server}}
        with operator(rights.kubeconfig, tmp_path / "operator", **told) as running:
            _live(api, namespace)
            until(
                lambda: (
                    api.get("/apis/paretune.dev/v1alpha1/devicepools/pool-0").get("status", {}).get("nodes")
                ),
                60,
                "a pool that tells its nodes",
            )
            metrics = running.get("/metrics")[1]
            assert running.get("/readyz")[0] == 200
        events = _asked(plane, rights.account, before)
    assert _refused(events) == set(), "rights that the chart's roles lack"
    assert 'paretune_reconcile_seconds_count{result="error"} 0.0' in metrics
    used = {_grant(event) for event in events}
    assert rights.grants - used - NOT_ALWAYS.keys() == set(), "rights that nothing asks for"
    lease = rights.config["lease"]
    api.delete(f"/apis/coordination.k8s.io/v1/namespaces/{lease['namespace']}/leases/{lease['name']}")
    api.delete("/apis/paretune.dev/v1alpha1/devicepools/pool-0")
    api.delete(f"/api/v1/persistentvolumes/{namespace}-shelf")
