"""`kubectl paretune` at a real API server: what people see of the objects that are there, by their rights."""

import hashlib
import importlib
import json
import os
import ssl
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from paretune.api import OptimizationTrial, State
from paretune.api.trial import TrialArtifact
from paretune.cli import kubectl
from paretune.cluster.api import STUDIES as STUDIES_RESOURCE
from paretune.cluster.names import study_labels
from paretune.cluster.reading import Cluster, NotFound
from support.api_server import ApiServer
from support.certificates import Authority
from support.waiting import until
from unit.search import toy_study

STUDIES = "/apis/paretune.dev/v1alpha1/namespaces/{}/optimizationstudies"
TRIALS = "/apis/paretune.dev/v1alpha1/namespaces/{}/optimizationtrials"
THEN = "2026-05-04T10:00:00Z"

Run = Callable[..., int]


def _condition(kind: str, status: str = "True", reason: str = "AsAsked", message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": THEN,
        "observedGeneration": 1,
    }


class Studies:
    """Writes studies and records as the operator does."""

    def __init__(self, api: ApiServer, namespace: str) -> None:
        self.api, self.namespace = api, namespace

    def study(self, name: str = "toy", **spec: Any) -> dict[str, Any]:
        """A running study, accepted."""
        data = {part: {"uri": f"s3://data/{part}.npz"} for part in ("train", "calibration", "evaluation")}
        document = {
            "apiVersion": "paretune.dev/v1alpha1",
            "kind": "OptimizationStudy",
            "metadata": {"name": name},
            "spec": {
                "model": {"uri": "s3://models/kws.keras"},
                "dataset": data,
                "objectives": list(toy_study.OBJECTIVES),
                "budget": {"trials": 40},
                **spec,
            },
        }
        self.api.create(document, self.namespace)
        summary = toy_study.intake().model_dump(mode="json", by_alias=True)
        return self.tell(name, _condition("Ready"), _condition("Progressing"), intake=summary, seed=7)

    def tell(self, name: str, *conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
        """Writes the study's status; conditions replace those of their type."""
        found = self.api.get(f"{STUDIES.format(self.namespace)}/{name}")
        known = {c["type"]: c for c in found.get("status", {}).get("conditions", ())}
        known |= {c["type"]: c for c in conditions}
        found["status"] = {**found.get("status", {}), **status, "conditions": list(known.values())}
        return self.api.replace(found, "status")

    def record(self, study: dict[str, Any], trial: OptimizationTrial) -> dict[str, Any]:
        """Writes a trial with its status."""
        plain = trial.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        name, uid = study["metadata"]["name"], study["metadata"]["uid"]
        status = plain.pop("status", {})
        document = {
            "apiVersion": "paretune.dev/v1alpha1",
            "kind": "OptimizationTrial",
            **plain,
            "metadata": {"name": f"{name}-{trial.number:04d}", "labels": study_labels(name, uid)},
        }
        document["spec"]["studyName"] = name
        made = self.api.create(document, self.namespace)
        return self.api.replace({**made, "status": status}, "status")

    def searched(self, study: dict[str, Any], count: int = 12) -> list[OptimizationTrial]:
        """Writes the records of a search."""
        trials = toy_study.search(toy_study.spec(), count, seed=7)
        for trial in trials:
            self.record(study, trial)
        return trials


@pytest.fixture
def studies(api: ApiServer, namespace: str, definitions: None) -> Studies:
    return Studies(api, namespace)


@pytest.fixture
def kubectl_paretune(api: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command, as the administrator in the test's namespace unless it says another; the exit code."""
    for name in ("KUBECONFIG", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, where: bool = True) -> int:
        place = ("--kubeconfig", api.kubeconfig, "-n", namespace) if where else ()
        command, *rest = arguments
        monkeypatch.setattr(sys, "argv", ["kubectl-paretune", *map(str, (command, *place, *rest))])
        with pytest.raises(SystemExit) as ended:
            kubectl.main()
        return int(ended.value.code or 0)

    return run


Captured = pytest.CaptureFixture[str]


# --- status ------------------------------------------------------------------------------------------------


def test_all_studies_are_a_line_each(studies: Studies, kubectl_paretune: Run, capsys: Captured) -> None:
    studies.study("one")
    studies.tell("one", progress="12/40", best="accuracy 91%", front=[1, 2, 3])
    studies.study("two", suspend=True)

    assert kubectl_paretune("status") == 0
    head, one, two = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["NAME", "PHASE", "PROGRESS"]
    assert one.split()[:4] == ["one", "Running", "12/40", "3"]
    assert "accuracy 91%" in one
    assert two.split()[:2] == ["two", "Suspended"]


def test_all_namespaces_are_named(
    studies: Studies, kubectl_paretune: Run, make_namespace: Callable[..., str], capsys: Captured
) -> None:
    studies.study("one")
    other = make_namespace()
    Studies(studies.api, other).study("one")

    assert kubectl_paretune("status", "-A") == 0
    lines = {tuple(line.split()[:2]) for line in capsys.readouterr().out.splitlines()}
    assert {(studies.namespace, "one"), (other, "one")} <= lines


def test_no_studies_are_told(studies: Studies, kubectl_paretune: Run, capsys: Captured) -> None:
    assert kubectl_paretune("status") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"No studies in namespace {studies.namespace}; -A looks in all.\n"


def test_json_is_the_clusters_own_object(studies: Studies, kubectl_paretune: Run, capsys: Captured) -> None:
    made = studies.study()

    assert kubectl_paretune("status", "toy", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["uid"] == made["metadata"]["uid"]
    assert kubectl_paretune("status", "-o", "yaml") == 0
    listed = yaml.safe_load(capsys.readouterr().out)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["toy"]


def test_one_study_is_shown_with_what_runs_and_its_front(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    study = studies.study()
    trials = studies.searched(study)
    running = toy_study.record(len(trials), state=State.QUEUED, reason="QuotaExceeded")
    studies.record(study, running)

    assert kubectl_paretune("status", "toy") == 0
    text = capsys.readouterr().out
    assert f"{studies.namespace}/toy" in text
    assert "12 of 40" in text
    assert "QuotaExceeded" in text
    assert "Pareto front of toy" in text


def test_records_of_an_earlier_study_of_this_name_are_left_out(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    study = studies.study()
    gone = {**study, "metadata": {**study["metadata"], "uid": "11111111-2222-3333-4444-555555555555"}}
    studies.record(gone, toy_study.record(0))

    assert kubectl_paretune("status", "toy") == 0
    assert "0 of 40" in capsys.readouterr().out


# --- watching ----------------------------------------------------------------------------------------------


def test_a_watch_tells_each_trial_once_and_ends_with_the_study(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    study = studies.study()
    trials = toy_study.search(toy_study.spec(), 5, seed=7)
    studies.record(study, trials[0])
    codes: list[int] = []
    watching = threading.Thread(target=lambda: codes.append(kubectl_paretune("status", "toy", "--watch")))
    watching.start()
    try:
        told = ""

        def seen(number: int) -> bool:
            nonlocal told
            told += capsys.readouterr().out
            return f"   {number} ✓" in told

        until(lambda: seen(0))
        for trial in trials[1:]:
            studies.record(study, trial)
        until(lambda: seen(4))
    finally:
        studies.tell("toy", _condition("Complete", reason="BudgetSpent"))
        watching.join(60)
    told += capsys.readouterr().out

    assert codes == [0]
    assert all(told.count(f"   {number} ✓") == 1 for number in range(5))
    assert "Pareto front of toy" in told


def test_a_watched_study_that_fails_is_exit_code_1(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    studies.study()
    studies.tell("toy", _condition("Failed", reason="TooManyFailures", message="11 trials failed"))

    assert kubectl_paretune("status", "toy", "--watch") == 1
    assert "study toy failed: 11 trials failed" in capsys.readouterr().err


def test_a_watched_study_without_a_feasible_trial_is_exit_code_3(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    study = studies.study()
    studies.record(study, toy_study.record(0, state=State.INFEASIBLE))
    studies.tell("toy", _condition("Complete", reason="BudgetSpent"))

    assert kubectl_paretune("status", "toy", "--watch") == 3
    assert "no trial meets every constraint" in capsys.readouterr().err


def test_a_watched_study_that_is_deleted_ends_the_watch(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    studies.study()
    path = f"{STUDIES.format(studies.namespace)}/toy"
    deleting = threading.Timer(1.0, lambda: studies.api.delete(path))
    deleting.start()

    assert kubectl_paretune("status", "toy", "--watch") == 2
    assert "study toy: it was deleted" in capsys.readouterr().err


def test_a_watch_that_is_too_old_says_that_all_is_to_be_read_anew(studies: Studies, api: ApiServer) -> None:
    study = studies.study()
    place = Cluster.connect(api.kubeconfig, namespace=studies.namespace)

    with pytest.raises(NotFound):
        list(place.watch(STUDIES_RESOURCE, study, "1"))


# --- front, report, explain --------------------------------------------------------------------------------


def test_the_front_is_the_document_that_the_records_give(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    study = studies.study()
    trials = studies.searched(study)

    assert kubectl_paretune("front", "toy") == 0
    front = json.loads(capsys.readouterr().out)
    assert front["study"] == {"name": "toy", "uid": study["metadata"]["uid"], "seed": 7}
    assert front["counts"]["complete"] + front["counts"]["infeasible"] == len(trials)
    for entry in front["front"]:
        record = trials[entry["trial"]]
        assert entry["settings"] == record.settings.canonical()
        assert record.status.artifact is not None
        assert entry["artifact"]["sha256"] == record.status.artifact.sha256


def test_the_report_is_one_file_about_the_clusters_study(
    studies: Studies, kubectl_paretune: Run, tmp_path: Path, capsys: Captured
) -> None:
    studies.searched(studies.study())
    page = tmp_path / "page.html"

    assert kubectl_paretune("report", "toy", "-o", page) == 0
    text = page.read_text()
    assert text.startswith("<!")
    assert "toy" in text
    assert 'src="http' not in text
    assert capsys.readouterr().out == f"report   {page}\n"


def test_a_report_before_the_baseline_says_what_is_missing(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    studies.study()

    assert kubectl_paretune("report", "toy") == 2
    assert "the baseline (trial 0) is not measured yet" in capsys.readouterr().err


def test_a_trial_is_explained_with_its_pod(studies: Studies, kubectl_paretune: Run, capsys: Captured) -> None:
    study = studies.study()
    studies.searched(study, 3)
    labels = {
        **study_labels("toy", study["metadata"]["uid"]),
        "paretune.dev/trial": "2",
        "paretune.dev/stage": "compress",
    }
    impossible = {"disktype": "no-such-disk"}
    container = {"name": "stage", "image": "example.invalid/none"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "toy-0002-compress-0-abcde", "labels": labels},
        "spec": {"nodeSelector": impossible, "containers": [container]},
    }
    studies.api.create(pod, studies.namespace)
    path = f"/api/v1/namespaces/{studies.namespace}/pods/toy-0002-compress-0-abcde"
    until(lambda: "Unschedulable" in json.dumps(studies.api.get(path)))

    assert kubectl_paretune("explain", "toy", "toy-0002") == 0
    text = capsys.readouterr().out
    assert "Trial 2: Complete" in text
    assert "pod toy-0002-compress-0-abcde: Pending, Unschedulable" in text


class Kubelet:
    """A node that only knows the logs of its containers; the API server asks it for them."""

    def __init__(self, api: ApiServer, name: str, folder: Path) -> None:
        self.logs: dict[str, str] = {}
        self._api, self._name = api, name
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                container = self.path.partition("?")[0].rpartition("/")[2]
                lines = int(parse_qs(urlsplit(self.path).query)["tailLines"][0])
                found = outer.logs.get(container)
                text = "" if found is None else "\n".join(found.splitlines()[-lines:]) + "\n"
                self.send_response(404 if found is None else 200)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*Authority(folder).server("kubelet", ["127.0.0.1"]))
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        api.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_address[1]}},
        }
        # A patch: the controllers write to a new node at the same time.
        api.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    def close(self) -> None:
        self._api.delete(f"/api/v1/nodes/{self._name}")
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def kubelet(api: ApiServer, namespace: str, tmp_path: Path) -> Iterator[Kubelet]:
    """A node named as the namespace."""
    kubelet = Kubelet(api, namespace, tmp_path / "kubelet")
    yield kubelet
    kubelet.close()


@pytest.mark.skipif(bool(os.environ.get("PARETUNE_TEST_KUBECONFIG")), reason="only nodes here can be reached")
def test_the_log_of_a_running_stage_comes_from_its_pod(
    studies: Studies, kubelet: Kubelet, kubectl_paretune: Run, capsys: Captured
) -> None:
    study = studies.study()
    studies.searched(study, 3)
    image = "example.invalid/none"
    labels = study_labels("toy", study["metadata"]["uid"])
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "toy-0001-compress-0-abcde",
            "labels": labels | {"paretune.dev/trial": "1", "paretune.dev/stage": "compress"},
        },
        "spec": {
            "nodeName": studies.namespace,
            "initContainers": [{"name": "fetch", "image": image}, {"name": "stage", "image": image}],
            "containers": [{"name": "upload", "image": image}],
        },
    }
    studies.api.create(pod, studies.namespace)
    kubelet.logs = {"fetch": "fetched", "stage": "epoch 1\nepoch 2\nepoch 3"}

    assert kubectl_paretune("explain", "toy", "1", "--lines", 2) == 0
    text = capsys.readouterr().out
    assert "pod toy-0001-compress-0-abcde, container stage" in text
    assert text.rstrip().endswith("epoch 2\nepoch 3")
    assert "fetched" not in text


def test_a_trial_can_be_explained_as_its_record(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    trials = studies.searched(studies.study(), 3)

    assert kubectl_paretune("explain", "toy", "1", "-o", "json") == 0
    record = OptimizationTrial.model_validate(json.loads(capsys.readouterr().out))
    assert record.settings == trials[1].settings
    assert record.status.metrics == trials[1].status.metrics


# --- models ------------------------------------------------------------------------------------------------

ROUTE = "/api/2.0/mlflow-artifacts/artifacts"


class ArtifactServer:
    """An artifact proxy with the routes that reading needs."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.token = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if outer.token and self.headers.get("Authorization") != f"Bearer {outer.token}":
                    self._send(401, b"who are you?")
                elif path == ROUTE:
                    self._send(200, json.dumps({"files": []}).encode())
                else:
                    data = outer.files.get(path.removeprefix(f"{ROUTE}/"))
                    self._send(404 if data is None else 200, data or b"not here")

            def _send(self, code: int, data: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def mlflow() -> Iterator[ArtifactServer]:
    server = ArtifactServer()
    yield server
    server.close()


MODEL = b"a model of a few bytes"
SHA256 = hashlib.sha256(MODEL).hexdigest()


def _with_model(studies: Studies, tracking: str, **spec: Any) -> str:
    """A study with a baseline that has a model; where the store has it."""
    study = studies.study(tracking={"uri": tracking}, **spec)
    trial = toy_study.record(0)
    artifact = TrialArtifact(uri=f"candidates/{SHA256}.tflite", sha256=SHA256, bytes=len(MODEL))
    status = trial.status.model_copy(update={"artifact": artifact, "attempts": 1, "started": THEN})
    studies.record(study, trial.model_copy(update={"status": status}))
    return f"paretune/{studies.namespace}/{study['metadata']['uid']}"


def test_a_model_is_fetched_and_checked(
    studies: Studies, mlflow: ArtifactServer, kubectl_paretune: Run, tmp_path: Path, capsys: Captured
) -> None:
    root = _with_model(studies, mlflow.url)
    mlflow.files[f"{root}/candidates/{SHA256}.tflite"] = MODEL

    assert kubectl_paretune("fetch", "toy", "0", "-o", tmp_path / "m.tflite") == 0
    assert (tmp_path / "m.tflite").read_bytes() == MODEL
    assert SHA256 in capsys.readouterr().out


def test_a_models_server_can_be_reached_by_another_name_and_with_a_token(
    studies: Studies,
    mlflow: ArtifactServer,
    kubectl_paretune: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = _with_model(studies, "http://mlflow.tools:5000")
    mlflow.files[f"{root}/candidates/{SHA256}.tflite"] = MODEL
    mlflow.token = "sesame"  # noqa: S105
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "sesame")

    target = tmp_path / "m.tflite"
    assert kubectl_paretune("fetch", "toy", "0", "-o", target, "--tracking-uri", mlflow.url) == 0
    assert target.read_bytes() == MODEL


def test_a_damaged_model_is_not_written(
    studies: Studies, mlflow: ArtifactServer, kubectl_paretune: Run, tmp_path: Path, capsys: Captured
) -> None:
    root = _with_model(studies, mlflow.url)
    mlflow.files[f"{root}/candidates/{SHA256}.tflite"] = MODEL[::-1]

    assert kubectl_paretune("fetch", "toy", "0", "-o", tmp_path / "m.tflite") == 1
    assert "damaged or was replaced" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_was_removed_says_why(
    studies: Studies, mlflow: ArtifactServer, kubectl_paretune: Run, tmp_path: Path, capsys: Captured
) -> None:
    _with_model(studies, mlflow.url)

    assert kubectl_paretune("fetch", "toy", "0", "-o", tmp_path / "m.tflite") == 2
    assert "retain: all" in capsys.readouterr().err


def test_an_mlflow_inside_the_cluster_ends_in_how_to_reach_it(
    studies: Studies, kubectl_paretune: Run, tmp_path: Path, capsys: Captured
) -> None:
    _with_model(studies, "http://mlflow.tools.svc.invalid:5001")

    assert kubectl_paretune("fetch", "toy", "0", "-o", tmp_path / "m.tflite") == 1
    error = capsys.readouterr().err
    assert "kubectl port-forward -n tools service/mlflow 5000:5001" in error
    assert f"fetch -n {studies.namespace} toy 0 --tracking-uri http://localhost:5000" in error


def test_a_model_on_a_volume_ends_in_how_to_copy_it(
    studies: Studies, kubectl_paretune: Run, tmp_path: Path, capsys: Captured
) -> None:
    _with_model(studies, "", artifacts={"uri": "pvc://store/models"})

    assert kubectl_paretune("fetch", "toy", "0", "-o", tmp_path / "m.tflite") == 2
    error = capsys.readouterr().err
    uid = studies.api.get(f"{STUDIES.format(studies.namespace)}/toy")["metadata"]["uid"]
    assert f"POD:/artifacts/models/{studies.namespace}/{uid}/candidates/{SHA256}.tflite" in error


def test_a_trial_without_a_model_is_bad_input(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    study = studies.study(tracking={"uri": "http://localhost:5000"})
    studies.record(study, toy_study.record(0))
    studies.record(study, toy_study.record(1, state=State.FAILED, reason="NotRunnable"))

    assert kubectl_paretune("fetch", "toy", "1") == 2
    assert "trial 1: has made no model (Failed)" in capsys.readouterr().err


def test_logs_come_from_the_store_when_the_pods_are_gone(
    studies: Studies, mlflow: ArtifactServer, kubectl_paretune: Run, capsys: Captured
) -> None:
    root = _with_model(studies, mlflow.url)
    lines = "\n".join(f"line {number}" for number in range(100))
    mlflow.files[f"{root}/logs/0000-compress.log"] = lines.encode()

    assert kubectl_paretune("explain", "toy", "0", "--lines", 2) == 0
    text = capsys.readouterr().out
    assert "0000-compress.log" in text
    assert text.rstrip().endswith("line 98\nline 99")


# --- what goes wrong ---------------------------------------------------------------------------------------


def test_a_study_that_is_not_there_is_exit_code_2_and_names_the_others(
    studies: Studies, kubectl_paretune: Run, capsys: Captured
) -> None:
    studies.study("kws")

    assert kubectl_paretune("status", "kwz") == 2
    assert capsys.readouterr().err == f"study kwz: not in namespace {studies.namespace}, which has kws\n"


def test_who_may_not_is_told_so(
    studies: Studies, cluster: Any, namespace: str, kubectl_paretune: Run, capsys: Captured
) -> None:
    stranger = cluster.account(namespace, "stranger")

    assert kubectl_paretune("status", "--kubeconfig", stranger, "-n", namespace, where=False) == 1
    error = capsys.readouterr().err
    assert "you may not list optimizationstudies.paretune.dev in namespace" in error
    assert "paretune-view" in error


def test_a_view_of_the_namespace_is_enough(
    studies: Studies, cluster: Any, namespace: str, kubectl_paretune: Run, capsys: Captured
) -> None:
    studies.searched(studies.study(), 3)
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    verbs = ["get", "list", "watch"]
    role = [
        {"apiGroups": ["paretune.dev"], "resources": ["*"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["pods"], "verbs": verbs},
    ]
    studies.api.create({**rbac, "kind": "Role", "metadata": {"name": "view"}, "rules": role}, namespace)
    subject = {"kind": "ServiceAccount", "name": "viewer", "namespace": namespace}
    binding = {
        **rbac,
        "kind": "RoleBinding",
        "metadata": {"name": "view"},
        "subjects": [subject],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "view"},
    }
    studies.api.create(binding, namespace)
    place = ("--kubeconfig", cluster.account(namespace, "viewer"), "-n", namespace)

    def allowed() -> bool:
        return kubectl_paretune("status", *place, "toy", where=False) == 0

    until(allowed)
    assert "Pareto front of toy" in capsys.readouterr().out
    assert kubectl_paretune("explain", *place, "toy", "1", where=False) == 0


def test_a_cluster_that_does_not_answer_is_exit_code_1(
    api: ApiServer, kubectl_paretune: Run, tmp_path: Path, capsys: Captured
) -> None:
    plain = yaml.safe_load(api.kubeconfig.read_text())
    for each in plain["clusters"]:
        each["cluster"]["server"] = "https://127.0.0.1:1"
    away = tmp_path / "kubeconfig"
    away.write_text(yaml.safe_dump(plain))

    assert kubectl_paretune("status", "--kubeconfig", away, where=False) == 1
    error = capsys.readouterr().err
    assert error.startswith("the API server at https://127.0.0.1:1 does not answer")
    assert len(error.splitlines()) == 1


def test_an_unknown_context_is_exit_code_2(api: ApiServer, kubectl_paretune: Run, capsys: Captured) -> None:
    assert kubectl_paretune("status", "--context", "production") == 2
    assert "production" in capsys.readouterr().err


def test_a_kubeconfig_that_is_not_there_is_exit_code_2(
    kubectl_paretune: Run, tmp_path: Path, capsys: Captured
) -> None:
    assert kubectl_paretune("status", "--kubeconfig", tmp_path / "none", where=False) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_the_namespace_is_the_contexts(
    studies: Studies, kubectl_paretune: Run, tmp_path: Path, capsys: Captured
) -> None:
    studies.study("here")
    plain = yaml.safe_load(studies.api.kubeconfig.read_text())
    for each in plain["contexts"]:
        each["context"]["namespace"] = studies.namespace
    own = tmp_path / "kubeconfig"
    own.write_text(yaml.safe_dump(plain))

    assert kubectl_paretune("status", "--kubeconfig", own, where=False) == 0
    assert "here" in capsys.readouterr().out


def test_the_console_script_is_what_kubectl_looks_for() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "operator/pyproject.toml").read_text())
    module, function = project["project"]["scripts"]["kubectl-paretune"].split(":")

    assert getattr(importlib.import_module(module), function) is kubectl.main
