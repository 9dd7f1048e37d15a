"""The control plane is real, and the nodes that tests play do what a kubelet does."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paretune_contract.failure import Reason
from paretune_contract.settings import Settings
from paretune_contract.stages import COMPRESS, CompressResult
from paretune_contract.task import CompressTask, Store, StoreKind, Task
from paretune_contract.termination import from_message
from support.api_server import ApiServer, Document, Refused
from support.pod_process import Processes
from support.simulated_answers import function_of_settings
from support.simulated_node import Answer, Answers, Fault, Later, PodRun, SimulatedNodes
from support.waiting import until

IGNORE_DISRUPTION = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]
}
RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def job(
    name: str, *, spec: dict[str, Any] | None = None, pod: dict[str, Any] | None = None, **container: Any
) -> Document:
    """A Job with one container, without retries."""
    own = {"name": "main", "image": "example.invalid/none", "command": ["true"], **container}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": IGNORE_DISRUPTION,
            "template": {"spec": {"restartPolicy": "Never", "containers": [own], **(pod or {})}},
            **(spec or {}),
        },
    }


def ended(api: ApiServer, namespace: str, name: str) -> str:
    """The condition in which a Job came to its end, and why: `Complete`, `Failed PodFailurePolicy`."""

    def condition() -> str:
        found = api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}").get("status", {})
        for each in found.get("conditions", ()):
            if each["type"] in ("Complete", "Failed") and each["status"] == "True":
                return f"{each['type']} {each['reason']}" if each["type"] == "Failed" else "Complete"
        return ""

    return until(condition, what=f"the end of Job {name}")


def pods(api: ApiServer, namespace: str, job_name: str) -> list[Document]:
    """The pods of a Job, oldest first."""
    found = api.items(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"job-name={job_name}")
    return sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"])


def terminated(pod: Document, container: str = "main") -> Document:
    """How a container ended."""
    status = pod["status"]
    for each in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        if each["name"] == container:
            return dict(each["state"]["terminated"])
    raise AssertionError(f"no container {container}")


def playing(api: ApiServer, answer: Callable[[PodRun], Answer]) -> SimulatedNodes:
    return SimulatedNodes(api, Answers(answer))


def test_a_job_completes_and_its_pods_message_arrives(api: ApiServer, namespace: str) -> None:
    with playing(api, lambda run: f"hello from {run.node}") as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("greets"), namespace)

        assert ended(api, namespace, "greets") == "Complete"
        (pod,) = pods(api, namespace, "greets")
        assert terminated(pod)["message"] == f"hello from {namespace}-a"
        assert pod["status"]["phase"] == "Succeeded"


def test_a_stages_result_is_a_function_of_its_task(api: ApiServer, namespace: str) -> None:
    settings = Settings.model_validate({"quantization": {"scheme": "int8"}})
    store = Store(
        kind=StoreKind.FOLDER, uri="/mnt/claims/store", study=f"{namespace}/uid", steps=f"{namespace}/steps"
    )
    task = Task(
        store=store, name="0001-compress", compress=CompressTask(settings=settings, metrics=("accuracy",))
    )
    env = [{"name": "PARETUNE_TASK", "value": task.model_dump_json(by_alias=True)}]
    with playing(api, function_of_settings) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("compresses", env=env), namespace)

        assert ended(api, namespace, "compresses") == "Complete"
        (pod,) = pods(api, namespace, "compresses")
    result = from_message(terminated(pod)["message"], COMPRESS)
    assert isinstance(result, CompressResult)
    assert result.metrics["downloadSize"].value == 25_000


def test_a_pod_that_its_node_evicted_is_replaced(api: ApiServer, namespace: str) -> None:
    answers: list[Answer] = [Fault.EVICT, "second"]
    with playing(api, lambda run: answers.pop(0)) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("returns"), namespace)

        assert ended(api, namespace, "returns") == "Complete"
        first, second = pods(api, namespace, "returns")
        assert first["status"]["reason"] == "Evicted"
        assert terminated(second)["message"] == "second"


def test_a_pod_that_was_drained_is_replaced(api: ApiServer, namespace: str) -> None:
    answers: list[Answer] = [Fault.HANG, "second"]
    with playing(api, lambda run: answers.pop(0)) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("drained"), namespace)
        (pod,) = until(
            lambda: [p for p in pods(api, namespace, "drained") if p["status"]["phase"] == "Running"]
        )
        nodes.evict(namespace, pod["metadata"]["name"])

        assert ended(api, namespace, "drained") == "Complete"


@pytest.mark.parametrize(
    ("fault", "code", "reason"), [(Fault.CRASH, 139, "Error"), (Fault.OUT_OF_MEMORY, 137, "OOMKilled")]
)
def test_a_container_that_dies_fails_its_job_at_once(
    api: ApiServer, namespace: str, fault: Fault, code: int, reason: str
) -> None:
    with playing(api, lambda run: fault) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("dies"), namespace)

        assert ended(api, namespace, "dies") == "Failed PodFailurePolicy"
        (pod,) = pods(api, namespace, "dies")
        assert (terminated(pod)["exitCode"], terminated(pod)["reason"]) == (code, reason)


def test_a_message_can_be_lost_with_its_pod(api: ApiServer, namespace: str) -> None:
    with playing(api, lambda run: Fault.LOSE_MESSAGE) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("forgotten"), namespace)

        assert ended(api, namespace, "forgotten") == "Complete"
        until(lambda: not pods(api, namespace, "forgotten"))


def test_a_store_that_is_down_is_said_in_the_message(api: ApiServer, namespace: str) -> None:
    with playing(api, lambda run: Fault.STORE_DOWN) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("uploads"), namespace)

        assert ended(api, namespace, "uploads") == "Failed PodFailurePolicy"
        (pod,) = pods(api, namespace, "uploads")
    end = terminated(pod)
    assert end["exitCode"] == 75
    assert from_message(end["message"], COMPRESS).reason is Reason.STORE_UNAVAILABLE


def test_a_pod_ends_at_its_deadline(api: ApiServer, namespace: str) -> None:
    with playing(api, lambda run: Fault.HANG) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("hangs", pod={"activeDeadlineSeconds": 1}), namespace)

        assert ended(api, namespace, "hangs").startswith("Failed")
        (pod,) = pods(api, namespace, "hangs")
        assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_deleted_job_takes_its_running_pod_with_it(api: ApiServer, namespace: str) -> None:
    with playing(api, lambda run: Fault.HANG) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("unwanted"), namespace)
        until(lambda: [p for p in pods(api, namespace, "unwanted") if p["status"]["phase"] == "Running"])
        api.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs/unwanted", propagationPolicy="Background")

        until(lambda: not pods(api, namespace, "unwanted"))


def test_an_image_that_is_not_there_leaves_the_pod_waiting(api: ApiServer, namespace: str) -> None:
    with playing(api, lambda run: Fault.NO_IMAGE) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("waits"), namespace)

        def waiting() -> list[str]:
            return [
                status["state"]["waiting"]["reason"]
                for pod in pods(api, namespace, "waits")
                for status in pod["status"].get("containerStatuses", ())
                if "waiting" in status["state"]
            ]

        until(lambda: waiting() == ["ImagePullBackOff"])


def test_pods_go_to_the_nodes_that_have_what_they_ask_for(api: ApiServer, namespace: str) -> None:
    taint = {"key": "board", "value": "coral", "effect": "NoSchedule"}
    pool = {"nodeSelector": {"pool": namespace}, "tolerations": [{"key": "board", "operator": "Exists"}]}
    coral = {"limits": {"google.com/coral": "1", "cpu": "1", "memory": "1Gi"}}
    with playing(api, lambda run: run.node) as nodes:
        nodes.add(f"{namespace}-plain", labels={"pool": namespace}, taints=[taint])
        nodes.add(
            f"{namespace}-coral",
            labels={"pool": namespace},
            taints=[taint],
            resources={"google.com/coral": "1"},
            architecture="arm64",
        )
        api.create(job("accelerated", pod=pool, resources=coral), namespace)
        api.create(job("lost", pod={**pool, "nodeSelector": {"pool": "none"}}), namespace)

        assert ended(api, namespace, "accelerated") == "Complete"
        (pod,) = pods(api, namespace, "accelerated")
        assert terminated(pod)["message"] == f"{namespace}-coral"

        def unschedulable() -> list[str]:
            return [
                condition.get("reason", "")
                for pod in pods(api, namespace, "lost")
                for condition in pod["status"].get("conditions", ())
                if condition["type"] == "PodScheduled"
            ]

        until(lambda: unschedulable() == ["Unschedulable"])


def test_a_hundred_jobs_come_to_their_end(api: ApiServer, namespace: str) -> None:
    with playing(api, lambda run: Later(0.05, run.labels["job-name"])) as nodes:
        for index in range(4):
            nodes.add(f"{namespace}-{index}")
        for number in range(100):
            api.create(job(f"job-{number}"), namespace)

        def messages() -> set[str]:
            found = api.items(f"/api/v1/namespaces/{namespace}/pods")
            return {terminated(p)["message"] for p in found if p["status"]["phase"] == "Succeeded"}

        until(lambda: messages() == {f"job-{number}" for number in range(100)}, 240)
        assert not nodes.faults


def test_a_restricted_namespace_refuses_a_privileged_pod(
    api: ApiServer, make_namespace: Callable[..., str]
) -> None:
    namespace = make_namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
    container = {"name": "main", "image": "example.invalid/none", "securityContext": {"privileged": True}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "strong"},
        "spec": {"containers": [container]},
    }

    with pytest.raises(Refused, match="violates PodSecurity") as refused:
        api.create(pod, namespace)
    assert refused.value.code == 403

    container["securityContext"] = RESTRICTED
    api.create(pod, namespace)


def test_a_quota_refuses_what_is_too_much(api: ApiServer, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small"},
        "spec": {"hard": {"pods": "0"}},
    }
    api.create(quota, namespace)
    path = f"/api/v1/namespaces/{namespace}/resourcequotas/small"
    until(lambda: "hard" in api.get(path).get("status", {}))
    container = {"name": "main", "image": "example.invalid/none"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "many"},
        "spec": {"containers": [container]},
    }

    with pytest.raises(Refused, match="exceeded quota"):
        api.create(pod, namespace)


def test_an_account_can_do_only_what_it_was_given(cluster: Any, api: ApiServer, namespace: str) -> None:
    with ApiServer(cluster.account(namespace, "nobody")) as nobody:
        with pytest.raises(Refused, match="cannot list resource") as refused:
            nobody.get(f"/api/v1/namespaces/{namespace}/pods")
        assert refused.value.code == 403
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "sees"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": namespace}],
        }
        api.create(binding, namespace)

        def sees() -> bool:
            try:
                return nobody.get(f"/api/v1/namespaces/{namespace}/pods")["items"] == []
            except Refused:  # the authorizer reads bindings from a cache
                return False

        until(sees)


# --- commands as processes ---------------------------------------------------------------------------------

FETCH = """
import os, pathlib
work = pathlib.Path(os.environ["PARETUNE_WORK"])
key = pathlib.Path(os.environ["PARETUNE_SECRETS"], "paretune-models", "key").read_text()
(work / "request.json").write_text(key + " on " + os.environ["NODE"])
"""
STAGE = """
import os, pathlib
work = pathlib.Path(os.environ["PARETUNE_WORK"])
assert not os.listdir(os.environ["PARETUNE_SECRETS"])
(work / "result.json").write_text((work / "request.json").read_text().upper())
"""
UPLOAD = """
import os, pathlib, sys
text = pathlib.Path(os.environ["PARETUNE_WORK"], "result.json").read_text()
pathlib.Path(os.environ["PARETUNE_CLAIMS"], "store", "kept").write_text(text)
pathlib.Path(os.environ["PARETUNE_TERMINATION_LOG"]).write_text(text)
sys.exit(int(sys.argv[1]))
"""


def stages(code: int = 0, stage: str = STAGE) -> dict[str, Any]:
    """A pod of three containers in a row over one folder, as Paretune's are."""
    work = {"name": "work", "mountPath": "/work"}
    common = {"image": "example.invalid/none", "terminationMessagePolicy": "FallbackToLogsOnError"}
    secret = {"name": "models", "mountPath": "/var/run/paretune/secrets/paretune-models"}
    node = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    return {
        "volumes": [
            {"name": "work", "emptyDir": {}},
            {"name": "models", "secret": {"secretName": "paretune-models"}},
            {"name": "store", "persistentVolumeClaim": {"claimName": "store"}},
        ],
        "initContainers": [
            {**common, "name": "fetch", "command": ["python", "-c", FETCH],
             "env": [node], "volumeMounts": [work, secret]},
            {**common, "name": "stage", "command": ["python", "-c", stage], "volumeMounts": [work]},
        ],
        "containers": [
            {
                **common,
                "name": "upload",
                "command": ["python", "-c", UPLOAD],
                "args": [str(code)],
                "volumeMounts": [work, {"name": "store", "mountPath": "/mnt/claims/store"}],
            }
        ],
    }  # fmt: skip


@pytest.fixture
def with_secret(api: ApiServer, namespace: str) -> str:
    """A namespace with the Secret and the bound claim that `stages` asks for."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "paretune-models"},
        "stringData": {"key": "sesame"},
    }
    api.create(secret, namespace)
    size = {"storage": "1Gi"}
    volume = {"name": namespace, "labels": {"of": namespace}}
    api.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": volume,
            "spec": {
                "capacity": size,
                "accessModes": ["ReadWriteMany"],
                "hostPath": {"path": "/nowhere"},
                "claimRef": {"namespace": namespace, "name": "store"},
            },
        }
    )
    api.create(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "store"},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": namespace,
                "resources": {"requests": size},
            },
        },
        namespace,
    )
    return namespace


def test_commands_run_in_order_on_the_pods_volumes(api: ApiServer, with_secret: str, tmp_path: Path) -> None:
    namespace, play = with_secret, Processes(api, tmp_path)
    with SimulatedNodes(api, play) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("stages", pod=stages()), namespace)

        assert ended(api, namespace, "stages") == "Complete"
        (pod,) = pods(api, namespace, "stages")
    assert terminated(pod, "upload")["message"] == f"SESAME ON {namespace}-A".upper()
    assert (play.claim(namespace, "store") / "kept").read_text().startswith("SESAME")


def test_exit_code_and_message_of_a_command_are_the_containers(
    api: ApiServer, with_secret: str, tmp_path: Path
) -> None:
    namespace = with_secret
    with SimulatedNodes(api, Processes(api, tmp_path)) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("fails", pod=stages(code=75)), namespace)
        api.create(job("breaks", pod=stages(stage="raise SystemExit('no such layer')")), namespace)

        assert ended(api, namespace, "fails") == "Failed PodFailurePolicy"
        assert ended(api, namespace, "breaks") == "Failed PodFailurePolicy"
        (failed,), (broken,) = pods(api, namespace, "fails"), pods(api, namespace, "breaks")
    assert terminated(failed, "upload")["exitCode"] == 75
    assert (terminated(broken, "stage")["exitCode"], terminated(broken, "stage")["message"]) == (
        1,
        "no such layer",
    )


def test_a_command_can_be_killed_from_outside(api: ApiServer, with_secret: str, tmp_path: Path) -> None:
    namespace = with_secret
    with SimulatedNodes(api, Processes(api, tmp_path)) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("sleeps", pod=stages(stage="import time; time.sleep(600)")), namespace)
        (run,) = until(
            lambda: [r for r in nodes.runs() if r.namespace == namespace and r.status.is_running("stage")]
        )
        nodes.kill(namespace, run.name, "stage", "OOMKilled")

        assert ended(api, namespace, "sleeps") == "Failed PodFailurePolicy"
        (pod,) = pods(api, namespace, "sleeps")
    assert (terminated(pod, "stage")["exitCode"], terminated(pod, "stage")["reason"]) == (137, "OOMKilled")


def test_a_deleted_pods_command_ends(api: ApiServer, with_secret: str, tmp_path: Path) -> None:
    namespace = with_secret
    stage = (
        "import os, pathlib, time; "
        f"pathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(os.getpid())); time.sleep(600)"
    )
    with SimulatedNodes(api, Processes(api, tmp_path)) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(job("sleeps", pod=stages(stage=stage)), namespace)
        pid = until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        api.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs/sleeps", propagationPolicy="Background")
        until(lambda: not pods(api, namespace, "sleeps"))

        assert sys.platform != "linux" or not Path(f"/proc/{pid}").exists()


def test_a_secret_that_is_missing_is_waited_for(api: ApiServer, namespace: str, tmp_path: Path) -> None:
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "paretune-late", "key": "key"}}}]
    command = ["python", "-c", "import os; print(os.environ['KEY']); raise SystemExit(3)"]
    with SimulatedNodes(api, Processes(api, tmp_path)) as nodes:
        nodes.add(f"{namespace}-a")
        api.create(
            job("waits", command=command, env=env, terminationMessagePolicy="FallbackToLogsOnError"),
            namespace,
        )
        until(
            lambda: (
                "CreateContainerConfigError"
                in json.dumps([pod["status"] for pod in pods(api, namespace, "waits")])
            )
        )
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "paretune-late"},
            "stringData": {"key": "k1"},
        }
        api.create(secret, namespace)

        assert ended(api, namespace, "waits") == "Failed PodFailurePolicy"
        (pod,) = pods(api, namespace, "waits")
    assert terminated(pod)["message"] == "k1"
