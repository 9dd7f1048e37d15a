"""Tenants are strangers: studies of several namespaces, and people who may edit studies and nothing else.

The operator has the rights of the chart's roles alone.
"""

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from paretune.api.publication import PUBLISH, Publication
from paretune.tracking.records import STUDY_DELETED
from support.api_server import ApiServer, Document, Refused
from support.chart import NAMESPACE, render
from support.chart_permissions import Permitted, permitted, rules
from support.cluster_study import bound_claim, condition, path, pool, study, trials, wait_for
from support.mlflow_server import tracking_server
from support.operator_process import OperatorProcess, operator
from support.pod_process import Processes
from support.pod_security import faults
from support.pod_status import containers
from support.simulated_answers import function_of_settings
from support.simulated_node import Answer, Answers, Fault, Later, PodRun, SimulatedNodes
from support.waiting import until

pytestmark = [pytest.mark.usefixtures("definitions"), pytest.mark.timeout(900)]

POOLS = "/apis/paretune.dev/v1alpha1/devicepools"
RBAC = "rbac.authorization.k8s.io"
STAGE, UID = "paretune.dev/stage", "paretune.dev/study-uid"
SECONDS = 0.4
"""How long a benchmark is sure to be on its node."""


class Stay(NamedTuple):
    """A benchmark that was on a node for at least this time (monotonic clock)."""

    namespace: str
    node: str
    begin: float
    end: float


class Nodes:
    """Plays pods: benchmarks stay a while, `purge` really runs, the rest is a function of the settings.

    Attributes:
        pods: every pod that was bound, as it was then.
        stays: of benchmarks.
        rule: what a test says first.
    """

    def __init__(self, api: ApiServer, folder: Path) -> None:
        self.pods: list[Document] = []
        self.stays: list[Stay] = []
        self.rule: Callable[[PodRun], Answer | None] = lambda _run: None
        self._really, self._answers = Processes(api, folder), Answers(self._answer)
        self._lock = threading.Lock()

    def __call__(self, run: PodRun) -> None:
        with self._lock:
            self.pods.append(run.pod)
        (self._really if run.labels.get(STAGE) == "purge" else self._answers)(run)

    def of(self, namespace: str, stage: str = "") -> list[Document]:
        """Pods of a namespace, of one stage or all."""
        found = [p for p in self.pods if p["metadata"]["namespace"] == namespace]
        return [p for p in found if stage in ("", p["metadata"]["labels"].get(STAGE))]

    def _answer(self, run: PodRun) -> Answer:
        found = self.rule(run)
        if found is not None:
            return found
        if run.labels.get(STAGE) != "benchmark":
            return function_of_settings(run)
        now = time.monotonic()
        self.stays.append(Stay(run.namespace, run.node, now, now + SECONDS))
        return Later(SECONDS, function_of_settings(run) if run.task else "")


@pytest.fixture(scope="module")
def nodes(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    played = Nodes(api, tmp_path_factory.mktemp("pods"))
    with SimulatedNodes(api, played) as found:
        found.add("work-1")
        found.add("work-2")
        found.add("board-1", labels={"board": "shared"})
        yield played


@pytest.fixture(autouse=True)
def _no_rule(nodes: Nodes) -> Iterator[None]:
    yield
    nodes.rule = lambda _run: None


@pytest.fixture(scope="module")
def pools(api: ApiServer, definitions: None) -> Iterator[None]:
    """Two pools of one node, and one that is for others."""
    made = [pool(name, nodeSelector={"board": "shared"}) for name in ("here", "there")]
    made.append(pool("guarded", nodeSelector={"board": "shared"}, namespaces={"matchLabels": {"team": "x"}}))
    for document in made:
        api.apply(document)
    yield
    for document in made:
        api.delete(f"{POOLS}/{document['metadata']['name']}")


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real server, which is everybody's store, and the folder of its artifacts."""
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "empty.db").touch()
    with tracking_server(folder / "server", folder / "empty.db") as address:
        yield address, folder / "server" / "served" / "paretune"


@pytest.fixture(scope="module")
def rights(
    api: ApiServer, definitions: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Permitted]:
    """The operator's, as the chart grants them, beside the roles for people."""
    with permitted(api, tmp_path_factory.mktemp("rights")) as found:
        yield found


@pytest.fixture(scope="module")
def running(
    rights: Permitted,
    nodes: Nodes,
    pools: None,
    mlflow: tuple[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OperatorProcess]:
    config = {**rights.config, "tracking": {"servers": [{"uri": mlflow[0]}], "default": mlflow[0]}}
    config["reconcile"] = {"workers": 4, "statusSeconds": 0.5}
    with operator(rights.kubeconfig, tmp_path_factory.mktemp("operator"), **config) as process:
        yield process


def _study(name: str = "kws", device: str = "here", count: int = 5, **spec: Any) -> Document:
    budget = {"trials": count, "parallelism": 2}
    return study(name, devices=[{"name": "d", "pool": device}], **{"budget": budget, **spec})


# --- two studies of one name ------------------------------------------------------------------------------


def _ask(server: str, call: str, **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - a server of this test
        f"{server}/api/2.0/mlflow/{call}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found


def _runs(server: str, experiment: str) -> list[dict[str, Any]]:
    found = _ask(server, "experiments/search", filter=f"name = '{experiment}'", max_results=5)
    ids = [e["experiment_id"] for e in found.get("experiments", [])]
    return _ask(server, "runs/search", experiment_ids=ids, max_results=100).get("runs", []) if ids else []


def _tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def _environment(pod: Document) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for _, c in containers(pod) for e in c.get("env", ())}


def test_two_studies_of_one_name_know_nothing_of_each_other(
    api: ApiServer,
    make_namespace: Callable[..., str],
    nodes: Nodes,
    running: OperatorProcess,
    mlflow: tuple[str, Path],
) -> None:
    server, served = mlflow
    ours, theirs = make_namespace(), make_namespace()
    manifest = _study(artifacts={"uri": "", "retain": "all"})

    def crash(run: PodRun) -> Answer | None:
        labels = run.labels
        third = labels.get("paretune.dev/trial") == "2" and labels[STAGE] == "compress"
        return Fault.CRASH if third and run.namespace == theirs else None

    nodes.rule = crash
    uids = {space: api.create(manifest, space)["metadata"]["uid"] for space in (ours, theirs)}
    for space in (ours, theirs):
        # What the stages of each leave in the store that both share.
        for part in (f"{space}/{uids[space]}/candidates/model.tflite", f"{space}/steps/step.tar"):
            (served / part).parent.mkdir(parents=True, exist_ok=True)
            (served / part).write_bytes(part.encode())
    for space in (ours, theirs):
        wait_for(api, space, "kws", "Complete")
        wait_for(api, space, "kws", "Published")
        wait_for(api, space, "kws", "Tracked")

    for space, state in ((ours, "Complete"), (theirs, "Failed")):
        found = trials(api, space)
        assert [t["spec"]["number"] for t in found] == [0, 1, 2, 3, 4]
        assert {t["metadata"]["ownerReferences"][0]["uid"] for t in found} == {uids[space]}
        assert found[2]["status"]["state"] == state
        pods = nodes.of(space)
        assert {p["metadata"]["labels"][UID] for p in pods} == {uids[space]}
        tasks = [json.loads(e["PARETUNE_TASK"]) for p in pods if "PARETUNE_TASK" in (e := _environment(p))]
        assert {(t["store"]["study"], t["store"]["steps"]) for t in tasks} == {
            (f"{space}/{uids[space]}", f"{space}/steps")
        }
        (publish,) = nodes.of(space, "publish")
        told = Publication.model_validate_json(_environment(publish)[PUBLISH].replace("$$", "$"))
        own = f"{space}.kws"
        assert (told.study.spec.tracking.experiment, told.study.spec.tracking.registered_model) == (own, own)
        assert told.store.study == f"{space}/{uids[space]}"
        until(lambda own=own: len(_runs(server, own)) == 1 + 5, 120, f"all runs in {own}")
    assert _runs(server, "kws") == []

    before = {t["metadata"]["name"]: t["metadata"]["resourceVersion"] for t in trials(api, theirs)}
    api.delete(path(ours, "kws"))
    until(lambda: api.find(path(ours, "kws")) is None, 120, "the study gone")
    until(lambda: not trials(api, ours), 120, "its trials gone")
    until(
        lambda: not (served / ours / uids[ours] / "candidates" / "model.tflite").exists(),
        120,
        "its store empty",
    )
    until(
        lambda: all(STUDY_DELETED in _tags(run) for run in _runs(server, f"{ours}.kws")),
        120,
        "its runs tagged",
    )

    assert {t["metadata"]["name"]: t["metadata"]["resourceVersion"] for t in trials(api, theirs)} == before
    assert condition(api.get(path(theirs, "kws")), "Complete")["status"] == "True"
    assert (served / theirs / uids[theirs] / "candidates" / "model.tflite").exists()
    assert (served / theirs / "steps" / "step.tar").exists()
    assert not nodes.of(theirs, "purge")
    kept = _runs(server, f"{theirs}.kws")
    assert len(kept) == 1 + 5
    assert not any(STUDY_DELETED in _tags(run) for run in kept)


# --- one benchmark on a node ------------------------------------------------------------------------------


def _together(stays: list[Stay]) -> list[tuple[Stay, Stay]]:
    """Pairs that were on one node at one moment."""
    pairs = [(a, b) for i, a in enumerate(stays) for b in stays[:i]]
    return [(a, b) for a, b in pairs if a.node == b.node and a.begin < b.end and b.begin < a.end]


def test_benchmarks_of_two_namespaces_are_never_on_one_node_at_a_time(
    api: ApiServer, make_namespace: Callable[..., str], nodes: Nodes, running: OperatorProcess
) -> None:
    ours, theirs = make_namespace(), make_namespace()
    # Each has a pool to itself, so that no limit of a pool keeps them apart, and the node has room for both.
    api.create(_study(device="here", count=8), ours)
    api.create(_study(device="there", count=8), theirs)
    for space in (ours, theirs):
        wait_for(api, space, "kws", "Complete")
    stays = sorted((s for s in nodes.stays if s.namespace in (ours, theirs)), key=lambda s: s.begin)
    assert {s.node for s in stays} == {"board-1"}
    turns = sum(a.namespace != b.namespace for a, b in pairwise(stays))
    assert turns >= 3, "the two did not compete for the node: this would show nothing"
    assert not _together(stays)


def _bare(pod: Document, namespace: str, name: str) -> Document:
    """A benchmark's pod without its Job."""
    keep = ("containers", "nodeSelector", "affinity", "restartPolicy", "securityContext", "volumes")
    spec = {key: pod["spec"][key] for key in keep if key in pod["spec"]}
    labels = {
        k: v
        for k, v in pod["metadata"]["labels"].items()
        if not k.startswith(("batch.", "job-", "controller-"))
    }
    metadata = {"name": name, "namespace": namespace, "labels": {**labels, UID: "none"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def test_it_is_the_anti_affinity_of_their_pods_that_keeps_benchmarks_apart(
    api: ApiServer, make_namespace: Callable[..., str], nodes: Nodes, running: OperatorProcess
) -> None:
    spaces = (make_namespace(), make_namespace())
    api.create(_study(count=1), spaces[0])
    wait_for(api, spaces[0], "kws", "Complete")
    template = nodes.of(spaces[0], "benchmark")[0]
    nodes.rule = lambda run: Fault.HANG if run.name.startswith("bare-") else None
    for space in spaces:
        api.create(_bare(template, space, "bare-apart"))

    def pod(space: str, name: str) -> Document:
        return api.get(f"/api/v1/namespaces/{space}/pods/{name}")

    def phases(name: str) -> list[str]:
        return sorted(pod(space, name)["status"]["phase"] for space in spaces)

    until(lambda: phases("bare-apart") == ["Pending", "Running"], 60, "one of two on the node")
    (waits,) = (p for s in spaces if (p := pod(s, "bare-apart"))["status"]["phase"] == "Pending")
    scheduled = until(
        lambda: pod(waits["metadata"]["namespace"], "bare-apart")["status"].get("conditions"), 60
    )
    assert "anti-affinity" in scheduled[0]["message"]
    for space in spaces:
        free = _bare(template, space, "bare-together")
        del free["spec"]["affinity"]
        free["metadata"]["labels"] = {}
        api.create(free)
    until(lambda: phases("bare-together") == ["Running", "Running"], 60, "both on the node, which has room")
    assert {pod(s, "bare-together")["spec"]["nodeName"] for s in spaces} == {"board-1"}


# --- people -----------------------------------------------------------------------------------------------


class Tenant(NamedTuple):
    """Somebody with no rights yet, or the chart's role for editors in one namespace.

    Attributes:
        api: access with these rights.
        namespace: where the role is bound.
        other: a namespace of somebody else.
        home: where the account is.
    """

    api: ApiServer
    namespace: str
    other: str
    home: str

    def binding(self) -> Document:
        """The role for editors."""
        return {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "editors", "namespace": self.namespace},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "paretune-edit"},
            "subjects": [{"kind": "ServiceAccount", "name": "ann", "namespace": self.home}],
        }


@pytest.fixture
def tenant(cluster: Any, make_namespace: Callable[..., str], running: OperatorProcess) -> Iterator[Tenant]:
    mine, other, home = make_namespace(), make_namespace(), make_namespace()
    with closing(ApiServer(cluster.account(home, "ann"))) as ann:
        yield Tenant(ann, mine, other, home)


@pytest.fixture
def editor(api: ApiServer, tenant: Tenant) -> Tenant:
    """A tenant whose role is in force."""
    api.create(tenant.binding())
    until(lambda: _may(tenant, "create", "optimizationstudies"), 60, "the role in force")
    return tenant


def _may(tenant: Tenant, verb: str, resource: str) -> bool:
    attributes = {"namespace": tenant.namespace, "verb": verb, "group": "paretune.dev", "resource": resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = tenant.api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def _rights(tenant: Tenant, namespace: str) -> set[tuple[str, ...]]:
    """All that somebody may do in a namespace, as the API server tells it."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    status = tenant.api.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)[
        "status"
    ]
    assert not status["incomplete"]
    named = {
        (*grant, *rule.get("resourceNames", ()))
        for rule in status["resourceRules"]
        for grant in rules([rule])
    }
    return named | {
        (v, u) for r in status["nonResourceRules"] for v in r["verbs"] for u in r["nonResourceURLs"]
    }


def test_the_role_for_editors_adds_studies_and_nothing_else_and_nothing_elsewhere(
    api: ApiServer, tenant: Tenant
) -> None:
    before = {space: _rights(tenant, space) for space in (tenant.namespace, tenant.other, NAMESPACE)}
    api.create(tenant.binding())
    until(lambda: _may(tenant, "create", "optimizationstudies"), 60, "the role in force")
    after = {space: _rights(tenant, space) for space in before}

    added = after[tenant.namespace] - before[tenant.namespace]
    role = render().one("ClusterRole", "paretune-edit")
    assert added == set(rules(role["rules"]))
    assert {(group, resource) for group, resource, verb in added if verb not in ("get", "list", "watch")} == {
        ("paretune.dev", "optimizationstudies")
    }
    assert after[tenant.other] == before[tenant.other]
    assert after[NAMESPACE] == before[NAMESPACE]


def test_an_editor_creates_changes_and_deletes_studies_and_reads_their_trials(
    api: ApiServer, editor: Tenant
) -> None:
    ann, mine = editor.api, editor.namespace
    ann.create(_study(count=2), mine)
    wait_for(ann, mine, "kws", "Complete")
    assert len(trials(ann, mine)) == 2
    ann.patch(path(mine, "kws"), {"spec": {"budget": {"trials": 3}}})
    until(lambda: len(trials(ann, mine)) == 3, 120)
    wait_for(ann, mine, "kws", "Complete")
    ann.delete(path(mine, "kws"))
    until(lambda: ann.find(path(mine, "kws")) is None, 120, "the study gone")


POD: Document = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p"},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
JOB: Document = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "j"},
    "spec": {"template": {"spec": {**POD["spec"], "restartPolicy": "Never"}}},
}
TRIAL: Document = {
    "apiVersion": "paretune.dev/v1alpha1",
    "kind": "OptimizationTrial",
    "metadata": {"name": "kws-0000"},
    "spec": {"studyName": "kws", "number": 0, "settings": {}, "ask": {"seed": 1, "seen": ""}},
}
BINDING: Document = {
    "apiVersion": f"{RBAC}/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "more"},
    "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "User", "name": "ann", "apiGroup": RBAC}],
}
TOKEN: Document = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
LABELLED: Document = {"metadata": {"labels": {"paretune.dev/allow": "true"}}}
MY, ELSE = "/namespaces/MINE", "/namespaces/OTHER"
BATCH, OURS = "/apis/batch/v1", "/apis/paretune.dev/v1alpha1"
OUT_OF_REACH: list[tuple[str, str, Document | None]] = [
    ("GET", f"/api/v1{MY}/secrets", None),
    ("GET", f"/api/v1{MY}/secrets/paretune-models", None),
    ("GET", f"/api/v1{MY}/configmaps", None),
    ("POST", f"/api/v1{MY}/pods", POD),
    ("GET", f"/api/v1{MY}/pods", None),
    ("GET", f"/api/v1{MY}/pods/p/log", None),
    ("POST", f"/api/v1{MY}/pods/p/exec?command=sh", None),
    ("POST", f"{BATCH}{MY}/jobs", JOB),
    ("GET", f"{BATCH}{MY}/jobs", None),
    ("POST", f"/api/v1{MY}/serviceaccounts/default/token", TOKEN),
    ("PATCH", f"/api/v1{MY}/persistentvolumeclaims/closed", LABELLED),
    ("PATCH", "/api/v1/namespaces/MINE", {"metadata": {"labels": {"team": "x"}}}),
    ("POST", f"/apis/{RBAC}/v1{MY}/rolebindings", BINDING),
    ("POST", f"{OURS}{MY}/optimizationtrials", TRIAL),
    ("PATCH", f"{OURS}{MY}/optimizationtrials/kws-0000/status", {"status": {"state": "Failed"}}),
    ("DELETE", f"{OURS}{MY}/optimizationtrials/kws-0000", None),
    ("PATCH", f"{OURS}{MY}/optimizationstudies/kws/status", {"status": {"seed": 1}}),
    ("GET", f"{OURS}/devicepools", None),
    ("POST", f"{OURS}/devicepools", pool("mine")),
    ("PATCH", f"{OURS}/devicepools/guarded", {"spec": {"namespaces": {}}}),
    ("DELETE", f"{OURS}/devicepools/guarded", None),
    ("GET", "/api/v1/nodes", None),
    ("GET", "/api/v1/namespaces", None),
    ("GET", f"{OURS}/optimizationstudies", None),
    ("GET", f"{OURS}{ELSE}/optimizationstudies", None),
    ("GET", f"{OURS}{ELSE}/optimizationstudies/kws", None),
    ("GET", f"{OURS}{ELSE}/optimizationtrials", None),
    ("POST", f"{OURS}{ELSE}/optimizationstudies", _study()),
    ("PATCH", f"{OURS}{ELSE}/optimizationstudies/kws", {"spec": {"suspend": True}}),
    ("DELETE", f"{OURS}{ELSE}/optimizationstudies/kws", None),
    ("GET", "/apis/coordination.k8s.io/v1/namespaces/paretune-system/leases/paretune", None),
]  # fmt: skip


def test_an_editor_reaches_nothing_else(api: ApiServer, editor: Tenant) -> None:
    # All that is asked for is there: it is not for its absence that it is refused.
    for space in (editor.namespace, editor.other):
        api.create(_study(suspend=True), space)
    for name in ("paretune-models", "database"):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"k": "v"}}
        api.create(secret, editor.namespace)
    allowed = []
    for method, template, body in OUT_OF_REACH:
        address = template.replace("MINE", editor.namespace).replace("OTHER", editor.other)
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            editor.api.call(method, address, body, content=content)
        except Refused as refused:
            if refused.code == 403:
                continue
            allowed.append(f"{method} {address}: {refused}")
        else:
            allowed.append(f"{method} {address}")
    assert not allowed
    assert editor.api.get(path(editor.namespace, "kws"))["kind"] == "OptimizationStudy"


# --- what a study could be used for ------------------------------------------------------------------------


def _with(field: str, value: Any) -> Document:
    document = _study()
    place = document["spec"]
    *parents, last = field.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return document


SECRET_FIELDS = [
    "model.secretRef",
    "dataset.train.secretRef",
    "dataset.calibration.secretRef",
    "dataset.evaluation.secretRef",
    "dataset.test.secretRef",
    "artifacts.secretRef",
    "tracking.secretRef",
]


@pytest.mark.parametrize("field", SECRET_FIELDS)
@pytest.mark.parametrize(
    "name", ["database", "paretune", "Paretune-x", "x-paretune-", "paretune-a/../database"]
)
def test_a_study_cannot_name_a_secret_that_is_not_meant_for_studies(
    editor: Tenant, field: str, name: str
) -> None:
    document = _with(field, {"name": name})
    if field == "dataset.test.secretRef":
        document["spec"]["dataset"]["test"]["uri"] = "s3://models/test.npz"
    with pytest.raises(Refused) as refused:
        editor.api.create(document, editor.namespace)
    assert refused.value.code == 422
    assert any(f"spec.{field}.name" in cause[0] for cause in refused.value.causes)


FOREIGN_FIELDS = [
    "serviceAccountName",
    "compress.serviceAccountName",
    "compress.image",
    "compress.env",
    "compress.volumes",
    "benchmark.serviceAccountName",
    "nodeSelector",
    "tolerations",
]


def test_fields_that_a_study_does_not_have_are_refused_or_dropped(api: ApiServer, editor: Tenant) -> None:
    for field in FOREIGN_FIELDS:
        with pytest.raises(Refused, match="unknown field"):
            editor.api.create(_with(field, "builder"), editor.namespace)
    document = _study(suspend=True)
    for field in FOREIGN_FIELDS:
        document["spec"] = {**_with(field, "builder")["spec"], **document["spec"]}
        created = editor.api.create(
            {**document, "metadata": {"name": field.replace(".", "-").lower()}},
            editor.namespace,
            fieldValidation="Ignore",
        )
        assert "builder" not in json.dumps(created["spec"])


def test_a_status_that_a_study_brings_along_is_dropped(api: ApiServer, editor: Tenant) -> None:
    """It names images and pools; written by the tenant, it would choose both."""
    images = dict.fromkeys(("compress", "benchmark", "publish"), "registry.example/mine:1")
    devices = {"d": {"pool": "guarded", "runtime": "litert", "threads": 1}}
    status = {"seed": 1, "images": images, "devices": devices, "coder": "zstd-22"}
    created = editor.api.create({**_study(suspend=True), "status": status}, editor.namespace)
    assert "status" not in created
    found = until(
        lambda: (s := editor.api.get(path(editor.namespace, "kws"))).get("status", {}).get("images") and s, 60
    )
    assert found["status"]["devices"]["d"]["pool"] == "here"
    changed = editor.api.patch(path(editor.namespace, "kws"), {"status": status})
    assert "registry.example" not in json.dumps(changed["status"])
    assert changed["status"]["devices"]["d"]["pool"] == "here"


@pytest.mark.parametrize("field", ["model", "dataset.train", "dataset.evaluation", "artifacts"])
@pytest.mark.parametrize("labels", [{}, {"paretune.dev/allow": "false"}], ids=["no label", "another value"])
def test_a_study_cannot_mount_a_claim_that_is_not_labelled_for_studies(
    api: ApiServer, editor: Tenant, nodes: Nodes, field: str, labels: dict[str, str]
) -> None:
    (_, claim) = bound_claim(editor.namespace, "closed", Path("/nowhere"), labels)
    api.create(claim)
    uri = "pvc://closed/folder" + (".keras" if field == "model" else ".npz" if field != "artifacts" else "")
    editor.api.create(_with(f"{field}.uri", uri), editor.namespace)
    refused = wait_for(editor.api, editor.namespace, "kws", "Ready", "False", 60)
    assert condition(refused, "Ready")["reason"] == "ClaimNotAllowed"
    assert f"spec.{field}.uri" in condition(refused, "Ready")["message"]
    assert not api.items(f"/apis/batch/v1/namespaces/{editor.namespace}/jobs")
    assert not nodes.of(editor.namespace)


def test_a_study_cannot_be_measured_on_a_pool_that_is_for_others(
    api: ApiServer, editor: Tenant, nodes: Nodes
) -> None:
    editor.api.create(_study(device="guarded"), editor.namespace)
    refused = wait_for(editor.api, editor.namespace, "kws", "Ready", "False", 60)
    assert condition(refused, "Ready")["reason"] == "PoolNotAllowed"
    assert not api.items(f"/apis/batch/v1/namespaces/{editor.namespace}/jobs")
    inline = _study("inline")
    inline["spec"]["devices"] = [{"name": "d", "runtime": "litert"}]
    editor.api.create(inline, editor.namespace)
    refused = wait_for(editor.api, editor.namespace, "inline", "Ready", "False")
    assert condition(refused, "Ready")["reason"] == "InlinePoolNotAllowed"
    assert not nodes.of(editor.namespace)


def test_what_was_accepted_cannot_be_turned_into_something_else(api: ApiServer, editor: Tenant) -> None:
    editor.api.create(_study(suspend=True), editor.namespace)
    wait_for(editor.api, editor.namespace, "kws", "Progressing", "False")
    for change in (
        {"devices": [{"name": "d", "pool": "guarded"}]},
        {"model": {"uri": "pvc://closed/m.keras"}},
        {"artifacts": {"uri": "pvc://closed/store"}},
        {"tracking": {"secretRef": {"name": "paretune-others"}}},
    ):
        with pytest.raises(Refused, match="cannot change once the study exists"):
            editor.api.patch(path(editor.namespace, "kws"), {"spec": change})


def test_pods_get_nothing_but_what_a_study_may_name(api: ApiServer, editor: Tenant, nodes: Nodes) -> None:
    for document in bound_claim(editor.namespace, "shelf", Path("/nowhere"), {"paretune.dev/allow": "true"}):
        api.create(document)
    manifest = _study(
        count=3, artifacts={"uri": "s3://models/store", "secretRef": {"name": "paretune-store"}}
    )
    spec = manifest["spec"]
    spec["model"] = {"uri": "pvc://shelf/m.keras"}
    for part, source in spec["dataset"].items():
        source["secretRef"] = {"name": f"paretune-{part}"}
    spec["tracking"] = {"secretRef": {"name": "paretune-mlflow"}}
    spec["dataset"]["test"] = {"uri": "s3://models/test.npz", "secretRef": {"name": "paretune-test"}}
    editor.api.create(manifest, editor.namespace)
    wait_for(editor.api, editor.namespace, "kws", "Complete")
    wait_for(editor.api, editor.namespace, "kws", "Published")
    editor.api.delete(path(editor.namespace, "kws"))
    until(lambda: nodes.of(editor.namespace, "purge"), 120, "purge")

    pods = nodes.of(editor.namespace)
    stages = {p["metadata"]["labels"][STAGE] for p in pods}
    assert stages == {"intake", "compress", "evaluate", "benchmark", "publish", "retain", "purge"}
    records = {p["metadata"]["labels"]["batch.kubernetes.io/job-name"] for p in pods}
    for pod in pods:
        stage, found = pod["metadata"]["labels"][STAGE], pod["spec"]
        assert not faults(found)
        assert found["serviceAccountName"] == "default"
        assert found["automountServiceAccountToken"] is False
        assert {kind for v in found["volumes"] for kind in v} <= {
            "name", "emptyDir", "secret", "persistentVolumeClaim", "configMap",
        }  # fmt: skip
        secrets = {v["secret"]["secretName"] for v in found["volumes"] if "secret" in v}
        wanted = {"paretune-store"}
        if stage == "intake":
            wanted |= {f"paretune-{part}" for part in spec["dataset"]}
        if stage == "publish":
            wanted |= {"paretune-mlflow"}
        assert secrets == wanted, stage
        claims = {
            v["persistentVolumeClaim"]["claimName"] for v in found["volumes"] if "persistentVolumeClaim" in v
        }
        assert claims == ({"shelf"} if stage == "intake" else set())
        assert {v["configMap"]["name"] for v in found["volumes"] if "configMap" in v} <= records
        for _, container in containers(pod):
            assert "envFrom" not in container
            sources = {k for e in container["env"] for k in e.get("valueFrom", {})}
            assert sources <= {"fieldRef"}
            if container["name"] == "stage":
                assert {m["name"] for m in container["volumeMounts"]} == {"work", "tmp"}
    api.delete(f"/api/v1/persistentvolumes/{editor.namespace}-shelf")
