"""Nodes that are played: Node objects with leases, and pods bound to them that come to an end.

`Answers` ends each pod with what a function says of it, hundreds in seconds. `Processes` (in pod_process)
runs the containers' commands as processes of this machine.

    with SimulatedNodes(ApiServer(kubeconfig), Answers(function)) as nodes:
        nodes.add("pi-1", labels={"board": "rpi4"}, resources={"cpu": "4", "memory": "4Gi"})
"""

import contextlib
import importlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self

import click
from paretune_contract.failure import Reason
from paretune_contract.stages import Result
from paretune_contract.task import TASK, Task
from paretune_contract.termination import failed, to_message
from urllib3.exceptions import HTTPError

from .api_server import STRATEGIC, ApiServer, Document, Refused
from .pod_status import FINAL, Cause, PodStatus, containers

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
LEASE_SECONDS = 40
RESOURCES = {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "100Gi", "pods": "110"}
SIMULATED = "paretune.dev/simulated"
"""Label of the nodes that are played."""
THREADS = 64
"""Pods that are played at a time."""


class PodRun:
    """One pod on a node, from the moment it was bound.

    Attributes:
        pod: the object as it was when the node first saw it.
        status: its containers; `tell` writes it.
        stopped: set when the pod has to end for `cause`.
    """

    def __init__(self, api: ApiServer, pod: Document, address: str) -> None:
        self.pod = pod
        self.status = PodStatus(pod, address)
        self.stopped = threading.Event()
        self.cause: Cause | None = None
        self.began = time.monotonic()
        self.doomed: dict[str, str] = {}  # containers to kill, by the reason that their status shall give
        self._api = api
        self._lock = threading.Lock()
        self._idle = self._deleted = False

    @property
    def name(self) -> str:
        """Name of the pod."""
        return str(self.pod["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Namespace of the pod."""
        return str(self.pod["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """What tells it from another pod of the same name."""
        return str(self.pod["metadata"]["uid"])

    @property
    def node(self) -> str:
        """Name of its node."""
        return str(self.pod["spec"]["nodeName"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels of the pod."""
        return self.pod["metadata"].get("labels") or {}

    @property
    def path(self) -> str:
        """Path of the pod in the API."""
        return f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"

    @property
    def task(self) -> Task | None:
        """The document in PARETUNE_TASK; None for a pod that has none."""
        for _, container in containers(self.pod):
            for variable in container.get("env") or ():
                if variable["name"] == TASK and "value" in variable:
                    return Task.model_validate_json(variable["value"].replace("$$", "$"))  # as expanded
        return None

    @property
    def deadline(self) -> float | None:
        """When activeDeadlineSeconds is over, on the monotonic clock."""
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        return None if seconds is None else self.began + float(seconds)

    def tell(self) -> None:
        """Write the status. A pod that is gone meanwhile is no error."""
        try:
            # The uid keeps it from a new pod of the same name.
            body = {"metadata": {"uid": self.uid}, **self.status.document()}
            self._api.patch(f"{self.path}/status", body, STRATEGIC)
        except Refused as refused:
            if refused.code not in (404, 409):
                raise

    def stop(self, cause: Cause) -> bool:
        """The pod has to end; the first cause counts, but a deletion always takes it away in the end.

        Returns:
            True when nobody is playing it, so that the caller has to `conclude`.
        """
        with self._lock:
            self.cause = self.cause or cause
            self._deleted |= cause is Cause.DELETED
            self.stopped.set()
            return self._idle

    def rest(self) -> bool:
        """Its player has done what it will; True when the pod has to be concluded now."""
        with self._lock:
            self._idle = True
            return self.stopped.is_set()

    def conclude(self) -> None:
        """End what still runs, and take the pod away if it was deleted."""
        if self.cause is not None and self.cause is not Cause.GONE and self.status.phase not in FINAL:
            self.status.cut_off(self.cause)
            self.tell()
        if self._deleted:
            with contextlib.suppress(Refused):
                self._api.delete(self.path, gracePeriodSeconds=0, preconditions={"uid": self.uid})


class Play(Protocol):
    """Plays a pod: changes its status until it is final, or stopped, or nothing more happens to it."""

    def __call__(self, run: PodRun) -> None: ...


# --- answers -----------------------------------------------------------------------------------------------


class Fault(StrEnum):
    """What else may happen to a pod."""

    CRASH = "crash"  # `stage` ends by a signal
    OUT_OF_MEMORY = "oom"  # `stage` is killed for memory
    EVICT = "evict"  # the node needs the room (DisruptionTarget)
    LOSE_MESSAGE = "lose the message"  # it succeeds, and is gone before anybody read what it said
    HANG = "hang"  # it runs until it is stopped
    STORE_DOWN = "store down"  # `upload` ends with 75, StoreUnavailable
    DENIED = "denied"  # `fetch` ends with 65: access denied
    NO_IMAGE = "no image"  # the image cannot be pulled; it waits


@dataclass(frozen=True)
class Later:
    """An answer that takes its time: the pod runs for so many seconds first."""

    seconds: float
    answer: "Result | str | Fault"


Answer = Result | str | Fault | Later
"""A result, a termination message as it is, or a fault."""


class Answers:
    """Plays pods by a function of the pod, which is called once for each, from several threads.

    Two writes a pod: it runs, it has ended. The last container says the message, the others end with 0.
    """

    def __init__(self, function: Callable[[PodRun], Answer]) -> None:
        self._function = function

    def __call__(self, run: PodRun) -> None:
        answer = self._function(run)
        seconds = 0.0
        if isinstance(answer, Later):
            seconds, answer = answer.seconds, answer.answer
        names = [container["name"] for _, container in containers(run.pod)]
        if answer is Fault.NO_IMAGE:
            image = next(c["image"] for _, c in containers(run.pod))
            message = f'Back-off pulling image "{image}"'
            run.status.waiting(names[0], "ImagePullBackOff", message)
            run.tell()
            return
        last = _last(names, answer)
        for name in names[: names.index(last)]:
            run.status.ended(name, 0)
        run.status.running(last)
        run.tell()
        if run.stopped.wait(seconds) or answer is Fault.HANG:
            return
        self._end(run, names, answer)

    def _end(self, run: PodRun, names: Sequence[str], answer: Result | str | Fault) -> None:
        middle = "stage" if "stage" in names else names[-1]
        if answer is Fault.EVICT:
            run.status.cut_off(Cause.PRESSURE)
        elif answer is Fault.CRASH:
            self._fail(run, names, middle, 139, "", "Error")
        elif answer is Fault.OUT_OF_MEMORY:
            self._fail(run, names, middle, 137, "", "OOMKilled")
        elif answer is Fault.STORE_DOWN:
            message = failed(Reason.STORE_UNAVAILABLE, "the store does not answer: connection refused")
            self._fail(run, names, names[-1], 75, message)
        elif answer is Fault.DENIED:
            message = failed(Reason.MODEL_UNREADABLE, "s3://models/m.keras: access denied")
            self._fail(run, names, names[0], 65, message)
        elif answer is Fault.LOSE_MESSAGE:
            run.status.ended(names[-1], 0)
        else:
            run.status.ended(names[-1], 0, to_message(answer) if isinstance(answer, Result) else str(answer))
        run.tell()
        if answer is Fault.LOSE_MESSAGE:
            run.stop(Cause.DELETED)

    def _fail(
        self, run: PodRun, names: Sequence[str], name: str, code: int, message: str, reason: str = ""
    ) -> None:
        for later in names[names.index(name) + 1 :]:
            run.status.waiting(later, "PodInitializing")
        run.status.ended(name, code, message, reason)


def _last(names: Sequence[str], answer: Result | str | Fault) -> str:
    """The container in which the pod ends: a status that has ended can't be taken back."""
    if answer is Fault.DENIED:
        return names[0]
    if answer in (Fault.CRASH, Fault.OUT_OF_MEMORY) and "stage" in names:
        return "stage"
    return names[-1]


# --- nodes -------------------------------------------------------------------------------------------------


class SimulatedNodes:
    """Nodes of a cluster, played by threads of this process. Use it as a context manager.

    Args:
        api: the cluster, with an administrator's rights.
        play: what becomes of a pod.
        on_pod: called when a pod was bound to one of the nodes, before it is played.
    """

    def __init__(self, api: ApiServer, play: Play, *, on_pod: Callable[[PodRun], None] | None = None) -> None:
        self._api, self._play, self._on_pod = api, play, on_pod or (lambda run: None)
        self._nodes: dict[str, str] = {}
        self._runs: dict[str, PodRun] = {}
        self._silent: set[str] = set()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, "pod")
        self._threads = [
            threading.Thread(target=self._guarded, args=(loop,), name=name, daemon=True)
            for name, loop in (("pods", self._watch), ("leases", self._renew), ("deadlines", self._tick))
        ]
        self.faults: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop playing and remove the nodes. Pods that still run stay, for the garbage collector."""
        self._closing.set()
        for run in list(self._runs.values()):
            run.stop(Cause.GONE)
        self._pool.shutdown(wait=True, cancel_futures=True)
        for name in list(self._nodes):
            with contextlib.suppress(Refused, HTTPError):
                self.remove(name)

    def add(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        resources: Mapping[str, str] | None = None,
        architecture: str = "amd64",
        wait: bool = True,
    ) -> str:
        """Register a node, Ready; with `wait`, come back when pods can be scheduled to it.

        Args:
            name: name of the node.
            labels: more labels than every node has.
            taints: `{"key": ..., "value": ..., "effect": ...}` each.
            resources: capacity, beside or instead of RESOURCES; extended ones such as google.com/coral too.
            architecture: value of kubernetes.io/arch.
            wait: wait for the taint of new nodes to be lifted.

        Raises:
            TimeoutError: when it is not schedulable within a minute.
        """
        with self._lock:
            address = f"10.{200 + len(self._nodes) // 250}.0.{len(self._nodes) % 250 + 1}"
            self._nodes[name] = address
        self._beat(name)
        self._api.delete(f"/api/v1/nodes/{name}")  # one of an earlier process
        self._api.create(
            _node(name, address, labels or {}, taints, {**RESOURCES, **(resources or {})}, architecture)
        )
        end = time.monotonic() + 60
        while wait and self._is_new(name):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"node {name}: not schedulable after a minute; is kube-controller-manager alive?"
                )
            time.sleep(0.05)
        return name

    def remove(self, name: str) -> None:
        """Delete the node; its pods are collected later (DisruptionTarget), as after a machine is gone."""
        self._nodes.pop(name, None)
        self._api.delete(f"/api/v1/nodes/{name}")
        self._api.delete(f"{LEASES}/{name}")

    def silence(self, name: str) -> None:
        """The node says nothing any more: no lease, and nothing more happens to its pods."""
        self._silent.add(name)

    def runs(self) -> list[PodRun]:
        """The pods that are on the nodes now."""
        with self._lock:
            return list(self._runs.values())

    def evict(self, namespace: str, pod: str) -> None:
        """Evict a pod through the API, as `kubectl drain` does (DisruptionTarget, EvictionByEvictionAPI)."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        }
        self._api.call("POST", f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", eviction)

    def pressure(self, namespace: str, pod: str) -> None:
        """The node needs the room and ends the pod itself (DisruptionTarget, TerminationByKubelet).

        Raises:
            KeyError: when no such pod is on the nodes.
        """
        self._stop(self._run_of(namespace, pod), Cause.PRESSURE)

    def kill(self, namespace: str, pod: str, container: str, reason: str = "Error") -> None:
        """SIGKILL for a running container of `Processes`; with reason OOMKilled as if for memory.

        Raises:
            KeyError: when no such pod is on the nodes.
        """
        self._run_of(namespace, pod).doomed[container] = reason

    # --- threads ---

    def _guarded(self, loop: Callable[[], None]) -> None:
        while not self._closing.is_set():
            try:
                loop()
            except (Refused, HTTPError, OSError):  # the API server is away, or a watch is too old
                self._closing.wait(0.5)
            except Exception:
                self._fault(traceback.format_exc())
                self._closing.wait(0.5)

    def _fault(self, text: str) -> None:
        if not self._closing.is_set():
            self.faults.append(text)
            sys.stderr.write(f"simulated node: {text}\n")

    def _watch(self) -> None:
        path, bound = "/api/v1/pods", {"fieldSelector": "spec.nodeName!="}
        listed = self._api.get(path, **bound)
        there = {pod["metadata"]["uid"] for pod in listed["items"]}
        for uid, run in list(self._runs.items()):
            if uid not in there:
                self._drop(uid, run)
        for pod in listed["items"]:
            self._see(pod)
        # Short, so that closing does not wait long for the thread; it goes on where it was.
        version = listed["metadata"]["resourceVersion"]
        while not self._closing.is_set():
            for kind, pod in self._api.watch(path, version, 60, **bound):
                if self._closing.is_set():
                    return
                if kind == "ERROR":
                    return
                version = pod["metadata"]["resourceVersion"]
                if kind == "DELETED":
                    uid = pod["metadata"]["uid"]
                    if uid in self._runs:
                        self._drop(uid, self._runs[uid])
                elif kind != "BOOKMARK":
                    self._see(pod)

    def _see(self, pod: Document) -> None:
        name, uid = pod["spec"].get("nodeName"), pod["metadata"]["uid"]
        if name not in self._nodes or name in self._silent:
            return
        run, deleted = self._runs.get(uid), "deletionTimestamp" in pod["metadata"]
        if run is None:
            final = (pod.get("status") or {}).get("phase") in FINAL
            if final and not deleted:
                return
            run = PodRun(self._api, pod, self._nodes[name])
            with self._lock:
                self._runs[uid] = run
            if final or deleted:
                run.rest()
            else:
                self._on_pod(run)
                self._pool.submit(self._run, run)
        if deleted:
            run.pod["metadata"]["deletionGracePeriodSeconds"] = pod["metadata"].get(
                "deletionGracePeriodSeconds"
            )
            self._stop(run, Cause.DELETED)

    def _drop(self, uid: str, run: PodRun) -> None:
        with self._lock:
            self._runs.pop(uid, None)
        run.stop(Cause.GONE)

    def _run(self, run: PodRun) -> None:
        try:
            self._play(run)
        except Exception as error:
            self._fault(traceback.format_exc())
            for _, container in containers(run.pod):
                message = f"the simulated node could not play this pod: {error}"
                run.status.ended(container["name"], 128, message, "ContainerCannotRun")
            with contextlib.suppress(Refused, HTTPError):
                run.tell()
        if run.rest() and not self._closing.is_set():
            run.conclude()

    def _stop(self, run: PodRun, cause: Cause) -> None:
        if run.stop(cause):
            self._pool.submit(run.conclude)

    def _tick(self) -> None:
        while not self._closing.wait(0.1):
            at = time.monotonic()
            for run in self.runs():
                over = run.deadline is not None and at > run.deadline and not run.stopped.is_set()
                if over and run.node not in self._silent and run.status.phase not in FINAL:
                    self._stop(run, Cause.DEADLINE)

    def _renew(self) -> None:
        while not self._closing.wait(LEASE_SECONDS / 4):
            for name in set(self._nodes) - self._silent:
                self._beat(name)

    def _beat(self, name: str) -> None:
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": spec,
        }
        self._api.apply(lease)

    def _is_new(self, name: str) -> bool:
        taints = self._api.get(f"/api/v1/nodes/{name}")["spec"].get("taints") or ()
        return any(taint["key"].startswith("node.kubernetes.io/") for taint in taints)

    def _run_of(self, namespace: str, pod: str) -> PodRun:
        for run in self.runs():
            if (run.namespace, run.name) == (namespace, pod):
                return run
        raise KeyError(f"no pod {namespace}/{pod} on {', '.join(self._nodes)}")


def _node(
    name: str,
    address: str,
    labels: Mapping[str, str],
    taints: Sequence[Mapping[str, str]],
    resources: Mapping[str, str],
    architecture: str,
) -> Document:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {
            "type": kind,
            "status": "True" if kind == "Ready" else "False",
            "reason": reason,
            "message": "simulated",
            "lastHeartbeatTime": at,
            "lastTransitionTime": at,
        }
        for kind, reason in (
            ("MemoryPressure", "KubeletHasSufficientMemory"),
            ("DiskPressure", "KubeletHasNoDiskPressure"),
            ("PIDPressure", "KubeletHasSufficientPID"),
            ("Ready", "KubeletReady"),
        )
    ]
    common = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        SIMULATED: "true",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**common, **labels}},
        "spec": {"taints": [dict(taint) for taint in taints]},
        "status": {
            "capacity": dict(resources),
            "allocatable": dict(resources),
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": conditions,
            "nodeInfo": {
                "architecture": architecture,
                "operatingSystem": "linux",
                "kubeletVersion": "v1.34.4",
                "kubeProxyVersion": "",
                "containerRuntimeVersion": "simulated://1",
                "osImage": "simulated",
                "kernelVersion": "simulated",
                "bootID": "",
                "machineID": "",
                "systemUUID": "",
            },
        },
    }


# --- by hand -----------------------------------------------------------------------------------------------


@click.command(help="Play nodes of a cluster until Ctrl-C.")
@click.option(
    "--kubeconfig", envvar="KUBECONFIG", required=True, type=click.Path(exists=True, path_type=Path)
)
@click.option(
    "--node",
    "nodes",
    multiple=True,
    required=True,
    metavar="NAME[,label.KEY=VALUE][,taint.KEY=VALUE:EFFECT][,KEY=VALUE]...",
    help="A node; plain KEY=VALUE is a resource, such as cpu=4 or google.com/coral=1, or arch=arm64.",
)
@click.option(
    "--answers",
    metavar="MODULE:NAME",
    help="A function from the pod to its answer; default: results as a function of the settings.",
)
@click.option("--processes", is_flag=True, help="Run the containers' commands as processes instead.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=None, help="Volumes and logs of --processes."
)
def main(
    kubeconfig: Path, nodes: Sequence[str], answers: str | None, processes: bool, folder: Path | None
) -> None:
    from .pod_process import Processes
    from .simulated_answers import function_of_settings

    api = ApiServer(kubeconfig)
    play: Play
    if processes:
        folder = (folder or Path("/tmp") / "paretune-pods").resolve()  # noqa: S108 - told, and theirs to change
        play = Processes(api, folder)
        click.echo(f"volumes and logs: {folder}")
    elif answers:
        module, _, name = answers.partition(":")
        play = Answers(getattr(importlib.import_module(module), name))
    else:
        play = Answers(function_of_settings)
    with SimulatedNodes(
        api, play, on_pod=lambda run: click.echo(f"{run.node}: {run.namespace}/{run.name}")
    ) as played:
        for text in nodes:
            name, options = _node_options(text)
            played.add(name, **options)
            click.echo(f"{name} is ready")
        end = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: end.set())
        end.wait()


def _node_options(text: str) -> tuple[str, dict[str, Any]]:
    name, *parts = text.split(",")
    labels, taints, resources, architecture = {}, [], {}, "amd64"
    for part in parts:
        key, _, value = part.partition("=")
        if key.startswith("label."):
            labels[key.removeprefix("label.")] = value
        elif key.startswith("taint."):
            content, _, effect = value.partition(":")
            taints.append(
                {"key": key.removeprefix("taint."), "value": content, "effect": effect or "NoSchedule"}
            )
        elif key == "arch":
            architecture = value
        else:
            resources[key] = value
    return name, {"labels": labels, "taints": taints, "resources": resources, "architecture": architecture}


if __name__ == "__main__":
    # By its name, as others import it: there must be one Fault only.
    from support.simulated_node import main as command

    command()
