"""What happens on the cluster: install, a study from apply to its front in MLflow, removal."""

import io
import tarfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .progress import Progress
from .tools import Failed, Tools

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RELEASE, SYSTEM, NAMESPACE, STUDY = "paretune", "paretune-e2e-system", "paretune-e2e", "digits"
AMD64, EMULATED = "amd64", "arm64-emulated"
EMULATES = "e2e.paretune.dev/emulates"
"""Label of nodes that run images for another architecture under an emulator."""
PARTS = ("model.keras", "train.npz", "calibration.npz", "evaluation.npz", "test.npz")
VOLUME = "paretune-e2e-data"
DEFINITIONS = ("optimizationstudies", "optimizationtrials", "devicepools")
GROUP = "paretune.dev"
FINAL = ("Complete", "Infeasible", "Pruned", "Failed")
INSTALL_SECONDS, STUDY_SECONDS, REMOVE_SECONDS = 300, 2400, 300
LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Setting:
    """The cluster as this run uses it.

    Attributes:
        images: reference by image: operator, compress, benchmark; benchmark-arm64 unless arm64 is left out;
            mlflow where it is not the chart's own.
        arm64_nodes: the cluster has nodes for arm64, and nothing is emulated.
        volume: folder of the node for the claim; None: the cluster's default storage class makes it.
        values: more values for the chart, as `helm --set` takes them.
        trials: of the study; 0: as in study.yaml.
    """

    images: Mapping[str, str]
    arm64_nodes: bool = False
    volume: Path | None = None
    values: Sequence[str] = ()
    trials: int = 0

    @property
    def arm64(self) -> bool:
        """Candidates are also measured on arm64."""
        return "benchmark-arm64" in self.images


def install(tools: Tools, setting: Setting, file: Path) -> None:
    """Install the chart with an MLflow beside the operator, and come back when both are ready.

    Args:
        tools: of the cluster.
        setting: images and more values.
        file: where the values go.

    Raises:
        Failed: with helm's message and what the pods say.
    """
    values: dict[str, Any] = {
        "images": {name: _image(setting.images[name]) for name in _charted(setting)},
        "mlflow": {"enabled": True, "workers": 1, "persistence": {"enabled": False}},
        "compress": {
            "resources": {
                "requests": {"cpu": "300m", "memory": "1Gi"},
                "limits": {"cpu": "2", "memory": "4Gi"},
            }
        },
        "devicePools": {AMD64: _pool(AMD64, setting)},
    }
    file.write_text(yaml.safe_dump(values))
    more = [word for each in setting.values for word in ("--set", each)]
    try:
        tools.helm(
            "install", RELEASE, str(ROOT / "charts/paretune"), "--namespace", SYSTEM, "--create-namespace",
            "--values", str(file), *more, "--wait", "--timeout", f"{INSTALL_SECONDS}s",
        )  # fmt: skip
    except Failed as error:
        raise Failed(f"{error}\n{_pods(tools, SYSTEM)}") from None
    if setting.arm64:
        tools.apply(emulated_pool(setting))


def emulated_pool(setting: Setting) -> dict[str, Any]:
    """The pool for arm64: real nodes, or the emulator, and then it says so."""
    note = (
        "arm64 under qemu-user: it shows that candidates run there. No time measured here is an ARM device's."
    )
    pool: dict[str, Any] = {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "DevicePool",
        "metadata": {"name": EMULATED},
        "spec": _pool("arm64", setting),
    }
    if not setting.arm64_nodes:
        pool["metadata"] |= {
            "labels": {"e2e.paretune.dev/emulated": "true"},
            "annotations": {"kubernetes.io/description": note},
        }
    return pool


def _pool(architecture: str, setting: Setting) -> dict[str, Any]:
    emulated = architecture == "arm64" and not setting.arm64_nodes
    return {
        "runtime": "litert",
        "nodeSelector": {EMULATES: "arm64"} if emulated else {"kubernetes.io/arch": architecture},
        # The emulator makes minutes of seconds.
        "resources": {"limits": {"cpu": "1" if emulated else "500m", "memory": "512Mi"}},
        "pendingDeadline": "30m",
        **({"image": setting.images["benchmark-arm64"]} if architecture == "arm64" else {}),
    }


def bring_data(tools: Tools, setting: Setting, folder: Path) -> None:
    """A namespace with the claim `data`, filled by a pod that is then gone.

    Args:
        tools: of the cluster.
        setting: where the claim's volume comes from.
        folder: has PARTS.

    Raises:
        Failed: when the claim is not bound or the pod does not start.
    """
    tools.apply(
        _object("v1", "Namespace", NAMESPACE, ""),
        *_claim(setting.volume),
        _filler(setting.images["operator"]),
    )
    try:
        tools.kubectl(
            "--namespace", NAMESPACE, "wait", "--for=condition=Ready", "pod/filler", "--timeout=300s"
        )
    except Failed as error:
        raise Failed(f"{error}\n{_pods(tools, NAMESPACE)}") from None
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in PARTS:
            archive.add(folder / name, name)
    unpack = "import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode='r|').extractall('/data')"
    inside = ("--namespace", NAMESPACE)
    tools.kubectl(*inside, "exec", "-i", "filler", "--", "python", "-c", unpack, data=packed.getvalue())
    tools.kubectl(*inside, "delete", "pod", "filler", "--wait", "--timeout=120s")


def study(setting: Setting) -> dict[str, Any]:
    """The study's manifest."""
    document: dict[str, Any] = yaml.safe_load((HERE / "study.yaml").read_text())
    document["metadata"]["namespace"] = NAMESPACE
    spec = document["spec"]
    if setting.trials:
        spec["budget"]["trials"] = setting.trials
    if not setting.arm64:
        for name, key in (("devices", "name"), ("objectives", "device")):
            spec[name] = [each for each in spec[name] if each.get(key) != EMULATED]
    return document


def run_study(tools: Tools, setting: Setting, progress: Progress) -> dict[str, Any]:
    """Apply the study, tell how it goes, and come back with it when its front is in MLflow.

    Raises:
        Failed: when it fails, or takes too long.
    """
    tools.apply(study(setting))
    end, last = time.monotonic() + STUDY_SECONDS, ""
    while True:
        found = tools.get("optimizationstudy", STUDY, NAMESPACE)
        line = f"  {_standing(found)}; trials: {_states(tools.items('optimizationtrials', NAMESPACE))}"
        if line != last:
            progress.say(line)
            last = line
        if is_done(found):
            return found
        if time.monotonic() > end:
            raise Failed(
                f"the study did not end in {STUDY_SECONDS} s: {last.strip()}\n{_pods(tools, NAMESPACE)}"
            )
        time.sleep(LOOK_SECONDS)


def is_done(study: Mapping[str, Any]) -> bool:
    """The study has come to its good end, everything in MLflow.

    Raises:
        Failed: when it has come to a bad one, with its own words.
    """
    conditions = {each["type"]: each for each in study.get("status", {}).get("conditions", ())}
    for kind, bad in (("Ready", "False"), ("Failed", "True")):
        condition = conditions.get(kind, {})
        if condition.get("status") == bad:
            raise Failed(f"the study is {kind}={bad}: {condition['reason']}: {condition.get('message', '')}")
    return all(
        conditions.get(kind, {}).get("status") == "True" for kind in ("Complete", "Published", "Tracked")
    )


def trial_faults(trials: Iterable[Mapping[str, Any]], arm64: bool) -> list[str]:
    """What the records of an ended study lack, one sentence each.

    Args:
        trials: the records.
        arm64: candidates were measured on arm64 too.
    """
    found = []
    for trial in trials:
        name, status = trial["metadata"]["name"], trial.get("status", {})
        state = status.get("state")
        if state not in FINAL:
            found.append(f"{name} is {state}, which is no end")
        if state == "Failed":
            found.append(f"{name} failed: {status.get('reason')}: {status.get('message')}")
        if state != "Complete":
            continue
        wanted = {AMD64: "x86_64", **({EMULATED: "aarch64"} if arm64 else {})}
        for device, architecture in wanted.items():
            measured = status.get("pools", {}).get(device)
            if measured is None:
                found.append(f"{name} was not measured on {device}")
            elif measured["environment"]["architecture"] != architecture:
                found.append(f"{name} ran on {measured['environment']['architecture']} as {device}")
            elif f"peakMemory/{device}" not in status["metrics"]:
                found.append(f"{name} has no peakMemory/{device}")
        if f"latency/{AMD64}" not in status["metrics"]:
            found.append(f"{name} has no latency/{AMD64}")
    return found


def remove(tools: Tools) -> None:
    """Delete the study, the release and everything that this run made; nothing of Paretune is left.

    Raises:
        Failed: when something stays.
    """
    wait = f"--timeout={REMOVE_SECONDS}s"
    tools.kubectl("delete", "optimizationstudies", "--all", "--namespace", NAMESPACE, "--wait", wait)
    left = tools.items("optimizationtrials", NAMESPACE)
    if left:
        raise Failed(f"{len(left)} trials outlive their study")
    _jobs_end(tools)
    tools.kubectl("delete", "devicepools", "--all", "--wait", wait)
    tools.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", f"{REMOVE_SECONDS}s")
    sweep(tools)


def sweep(tools: Tools) -> None:
    """Delete what this run made, whatever state it is in; for a cluster that is not ours to throw away.

    Raises:
        Failed: when something stays.
    """
    wait = f"--timeout={REMOVE_SECONDS}s"
    if is_installed(tools):
        inside = ("--namespace", NAMESPACE)
        tools.kubectl("delete", "optimizationstudies", "--all", *inside, "--timeout=60s", check=False)
        for kind in ("optimizationstudies", "optimizationtrials"):  # of an operator that does not work
            for each in tools.items(kind, NAMESPACE):
                free = '{"metadata": {"finalizers": null}}'
                name = each["metadata"]["name"]
                tools.kubectl("patch", kind, name, *inside, "--type=merge", "--patch", free, check=False)
        tools.kubectl("delete", "devicepools", "--all", "--wait", wait)
    tools.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--ignore-not-found", check=False)
    names = [f"customresourcedefinition/{plural}.{GROUP}" for plural in DEFINITIONS]
    for arguments in (
        ("delete", "namespace", NAMESPACE, SYSTEM, "--ignore-not-found", "--wait", wait),
        ("delete", *names, "--ignore-not-found", "--wait", wait),
        ("delete", "persistentvolume", VOLUME, "--ignore-not-found", "--wait", wait),
    ):
        tools.kubectl(*arguments)
    for kind in ("clusterrole", "clusterrolebinding"):
        own = ["--selector", f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/name=paretune"]
        tools.kubectl("delete", kind, *own, "--ignore-not-found", "--wait", wait)


def is_installed(tools: Tools) -> list[str]:
    """Definitions of Paretune that the cluster has."""
    names = [each["metadata"]["name"] for each in tools.items("customresourcedefinitions")]
    return [name for name in names if name.endswith(f".{GROUP}")]


def overview(tools: Tools) -> str:
    """What a user looks at."""
    words = ("get", "studies,trials,devicepools", "--namespace", NAMESPACE, "--output", "wide")
    return tools.kubectl(*words)


def diagnose(tools: Tools, logs: Path) -> None:
    """Write down everything that tells why something failed."""
    logs.mkdir(parents=True, exist_ok=True)
    kinds = "studies,trials,devicepools,jobs,pods,events,persistentvolumeclaims"
    for name, arguments in {
        "objects.txt": ("get", "nodes,pods,jobs", "--all-namespaces", "--output", "wide"),
        "study.yaml": ("get", kinds, "--namespace", NAMESPACE, "--output", "yaml"),
        "events.txt": ("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"),
        "operator.log": ("logs", f"deployment/{RELEASE}", "--namespace", SYSTEM, "--tail=-1"),
        "mlflow.log": ("logs", f"deployment/{RELEASE}-mlflow", "--namespace", SYSTEM, "--tail=-1"),
        "jobs.log": (
            "logs", "--namespace", NAMESPACE, "--selector=app.kubernetes.io/managed-by=paretune",
            "--all-containers", "--prefix", "--tail=-1", "--max-log-requests=50",
        ),
    }.items():  # fmt: skip
        (logs / name).write_text(tools.kubectl(*arguments, check=False))


def _jobs_end(tools: Tools) -> None:
    end = time.monotonic() + REMOVE_SECONDS
    while running := [
        job["metadata"]["name"]
        for job in tools.items("jobs", NAMESPACE)
        if not {"Complete", "Failed"} & {c["type"] for c in job.get("status", {}).get("conditions", ())}
    ]:
        if time.monotonic() > end:
            raise Failed(f"Jobs still run after the study was deleted: {', '.join(running)}")
        time.sleep(LOOK_SECONDS)


def _charted(setting: Setting) -> list[str]:
    return [name for name in setting.images if name != "benchmark-arm64"]


def _image(reference: str) -> dict[str, str]:
    repository, _, tag = reference.rpartition(":")
    return {"registry": "", "repository": repository, "tag": tag}


def _object(version: str, kind: str, name: str, namespace: str, **more: Any) -> dict[str, Any]:
    inside = {"namespace": namespace} if namespace else {}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **inside}, **more}


def _claim(volume: Path | None) -> list[dict[str, Any]]:
    size = {"storage": "1Gi"}
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}}
    documents = []
    if volume:
        spec |= {"storageClassName": "", "volumeName": VOLUME}
        documents.append(
            _object(
                "v1", "PersistentVolume", VOLUME, "",
                spec={
                    "capacity": size, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                    "hostPath": {"path": str(volume)}, "claimRef": {"namespace": NAMESPACE, "name": "data"},
                },
            )
        )  # fmt: skip
    claim = _object("v1", "PersistentVolumeClaim", "data", NAMESPACE, spec=spec)
    claim["metadata"]["labels"] = {"paretune.dev/allow": "true"}
    return [*documents, claim]


def _filler(image: str) -> dict[str, Any]:
    container = {
        "name": "filler",
        "image": image,
        "command": ["python", "-c", "import time; time.sleep(3600)"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "containers": [container],
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsUser": 65532, "runAsNonRoot": True, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }  # fmt: skip
    return _object("v1", "Pod", "filler", NAMESPACE, spec=spec)


def _standing(study: Mapping[str, Any]) -> str:
    """The conditions that say something: what is true, and what is not and ought to be."""
    found = []
    for each in study.get("status", {}).get("conditions", ()):
        if each["status"] == "True" or each["type"] in ("Ready", "Tracked", "Published"):
            found.append(f"{'' if each['status'] == 'True' else 'not '}{each['type']} ({each['reason']})")
    return ", ".join(found) or "not looked at yet"


def _states(trials: Sequence[Mapping[str, Any]]) -> str:
    counted = Counter(trial.get("status", {}).get("state", "Pending") for trial in trials)
    again = sum("final" in trial.get("status", {}) for trial in trials)
    found = [f"{count} {state}" for state, count in sorted(counted.items())]
    return ", ".join([*found, *([f"{again} of the front measured again"] if again else [])]) or "none"


def _pods(tools: Tools, namespace: str) -> str:
    pods = tools.kubectl("get", "pods", "--namespace", namespace, "--output", "wide", check=False)
    events = tools.kubectl("get", "events", "--namespace", namespace, "--sort-by=.lastTimestamp", check=False)
    return "\n".join([pods, *events.splitlines()[-15:]])
