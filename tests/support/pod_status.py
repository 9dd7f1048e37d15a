"""A pod's status as a kubelet writes it, for nodes that are simulated."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .api_server import Document

MESSAGE_BYTES = 4096
"""What a kubelet keeps of a termination message."""
FINAL = ("Succeeded", "Failed")


class Cause(StrEnum):
    """Why a pod ends before its containers do, in the words of the pod's `status.reason`."""

    DELETED = "Deleted"  # somebody deleted it, or evicted it through the API
    GONE = "Gone"  # it is not there any more
    DEADLINE = "DeadlineExceeded"  # activeDeadlineSeconds
    PRESSURE = "Evicted"  # the node needs what it takes


SENTENCES = {
    Cause.DEADLINE: "Pod was active on the node longer than the specified deadline",
    Cause.PRESSURE: "The node was low on resource: memory.",
}


def now() -> str:
    """The time as the API has it, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def containers(pod: Document) -> Iterator[tuple[str, Document]]:
    """`(initContainers | containers, container)` in the order in which they start."""
    for group in ("initContainers", "containers"):
        for container in pod["spec"].get(group) or ():
            yield group, container


class PodStatus:
    """States of a pod's containers, and the status that follows. One thread at a time changes it."""

    def __init__(self, pod: Document, address: str) -> None:
        self._pod, self._address, self._started = pod, address, now()
        self._groups = {container["name"]: group for group, container in containers(pod)}
        self._states: dict[str, dict[str, Any]] = {}
        for group, container in containers(pod):
            waits = "PodInitializing" if group == "containers" and pod["spec"].get("initContainers") else None
            self._states[container["name"]] = {"waiting": {"reason": waits or "ContainerCreating"}}
        self._cause: Cause | None = None
        self._pressure = False

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded or Failed."""
        ended = {name: state.get("terminated") for name, state in self._states.items()}
        failed = any(end and end["exitCode"] for end in ended.values())
        init = [ended[name] for name, group in self._groups.items() if group == "initContainers"]
        main = [ended[name] for name, group in self._groups.items() if group == "containers"]
        if self._cause in SENTENCES or any(end and end["exitCode"] for end in init):
            return "Failed"
        if all(main):
            return "Failed" if failed else "Succeeded"
        running = any("running" in self._states[n] for n, g in self._groups.items() if g == "containers")
        return "Running" if running or any(main) else "Pending"

    def is_running(self, name: str) -> bool:
        """The container has begun and not ended."""
        return "running" in self._states[name]

    def waiting(self, name: str, reason: str, message: str = "") -> None:
        """The container cannot start, such as ImagePullBackOff."""
        self._states[name] = {"waiting": {"reason": reason, "message": message}}

    def running(self, name: str) -> None:
        """The container runs."""
        self._states[name] = {"running": {"startedAt": now()}}

    def ended(self, name: str, code: int, message: str = "", reason: str = "") -> None:
        """The container ended; a message is cut as a kubelet cuts it."""
        began = self._states[name].get("running", {}).get("startedAt") or now()
        ended: dict[str, Any] = {
            "exitCode": code,
            "reason": reason or ("Error" if code else "Completed"),
            "startedAt": began,
            "finishedAt": now(),
        }
        if message:
            ended["message"] = message.encode()[:MESSAGE_BYTES].decode(errors="ignore")
        self._states[name] = {"terminated": ended}

    def cut_off(self, cause: Cause, code: int = 137) -> None:
        """All that runs is killed, for this cause."""
        self._cause = cause
        for name, state in self._states.items():
            if "running" in state:
                self.ended(name, code)
            elif "waiting" in state and cause in (Cause.DELETED, Cause.PRESSURE):
                # A kubelet reports containers that never ran as ended, so that a pod can be final.
                self.ended(name, 137, "The container could not be located when the pod was terminated",
                           "ContainerStatusUnknown")  # fmt: skip

    def document(self) -> Document:
        """The status, as a strategic merge patch on the subresource: what others wrote of it stays."""
        phase = self.phase
        done, ready = phase in FINAL, phase == "Running"
        init = [state for name, state in self._states.items() if self._groups[name] == "initContainers"]
        initialized = all(state.get("terminated", {}).get("exitCode") == 0 for state in init)
        why = {"reason": "PodCompleted"} if phase == "Succeeded" else {"reason": "PodFailed"} if done else {}
        conditions = [
            _condition(
                "Initialized", initialized, {} if initialized else {"reason": "ContainersNotInitialized"}
            ),
            _condition("Ready", ready, why),
            _condition("ContainersReady", ready, why),
        ]
        found: Document = {
            "phase": phase,
            "startTime": self._started,
            "hostIP": self._address,
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "conditions": conditions,
            "initContainerStatuses": self._statuses("initContainers"),
            "containerStatuses": self._statuses("containers"),
        }
        if self._cause in SENTENCES:
            found |= {"reason": self._cause.value, "message": SENTENCES[self._cause]}
        if self._cause is Cause.PRESSURE:
            more = {"reason": "TerminationByKubelet", "message": SENTENCES[self._cause]}
            conditions.append(_condition("DisruptionTarget", True, more))
        return {"status": found}

    def _statuses(self, group: str) -> list[Document]:
        uid = self._pod["metadata"]["uid"]
        return [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": "",
                "containerID": "" if "waiting" in self._states[container["name"]]
                else f"simulated://{uid}/{container['name']}",
                "restartCount": 0,
                "ready": "running" in self._states[container["name"]] and group == "containers",
                "state": self._states[container["name"]],
            }
            for own, container in containers(self._pod)
            if own == group
        ]  # fmt: skip


def _condition(kind: str, true: bool, more: dict[str, str]) -> Document:
    return {"type": kind, "status": "True" if true else "False", "lastTransitionTime": now(), **more}
