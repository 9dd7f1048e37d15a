"""Pods played by processes of this machine: each container's command, in order, with folders for volumes.

There is no container: a command sees this machine's files and network. Paths of a pod are mapped in three
ways: the contract's variables (PARETUNE_WORK and others) name the mapped folders, TMPDIR the pod's own /tmp,
and arguments and values of the environment that begin with a mount's path begin with its folder instead.
`python` is the interpreter that runs the tests.
"""

import base64
import contextlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kubernetes.utils.quantity import parse_quantity
from paretune_contract.task import (
    CLAIMS,
    CLAIMS_VARIABLE,
    SECRETS,
    SECRETS_VARIABLE,
    TERMINATION_LOG_VARIABLE,
    WORK,
    WORK_VARIABLE,
)

from .api_server import ApiServer, Document, Refused
from .controlplane import end_with_parent
from .pod_status import containers
from .simulated_node import PodRun

TAIL_LINES, TAIL_BYTES = 80, 2048
"""What of the log becomes the message with FallbackToLogsOnError, as a kubelet does it."""
GRACE_SECONDS = 30.0
INHERITED = ("PATH", "LANG", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_][A-Za-z0-9_.-]*)\))")


class NotYet(Exception):
    """Something that the pod needs is not there; a kubelet waits for it.

    Attributes:
        reason: waiting reason of the container.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class _Mounted:
    """A container's mounts: local folder by path in the pod, longest path first."""

    folders: dict[str, Path] = field(default_factory=dict)

    def local(self, text: str) -> str:
        for path in sorted(self.folders, key=len, reverse=True):
            if text == path or text.startswith(path + "/"):
                return str(self.folders[path]) + text[len(path) :]
        return text


class Processes:
    """Plays pods by running what they say.

    Args:
        api: for Secrets and ConfigMaps.
        folder: gets `pods/NAMESPACE/NAME-UID8` (volumes; `CONTAINER.log`), and `claims/NAMESPACE/CLAIM`,
            which outlives the pods and is the same on all nodes (ReadWriteMany).
        environment: variables for all containers.
        keep: keep a pod's folder when it has ended.
    """

    def __init__(
        self, api: ApiServer, folder: Path, *, environment: Mapping[str, str] | None = None, keep: bool = True
    ) -> None:
        self._api, self._folder, self._environment, self._keep = api, folder, dict(environment or {}), keep

    def claim(self, namespace: str, name: str) -> Path:
        """Folder of a claim; made when there is none."""
        folder = self._folder / "claims" / namespace / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def home(self, run: PodRun) -> Path:
        """Folder of a pod."""
        return self._folder / "pods" / run.namespace / f"{run.name}-{run.uid[:8]}"

    def __call__(self, run: PodRun) -> None:
        try:
            for group in ("initContainers", "containers"):
                if not self._group(run, [c for g, c in containers(run.pod) if g == group]):
                    return
        finally:
            if not self._keep:
                shutil.rmtree(self.home(run), ignore_errors=True)

    def _group(self, run: PodRun, group: list[Document]) -> bool:
        """Init containers one after the other, containers at once; False when the pod has come to its end."""
        init = bool(group) and group[0] in (run.pod["spec"].get("initContainers") or ())
        for batch in [[c] for c in group] if init else [group]:
            processes: dict[str, subprocess.Popen[bytes]] = {}
            for container in batch:
                started = self._started(run, container)
                if started is None:
                    self._end_all(run, processes)
                    return False
                processes[container["name"]] = started
            run.tell()
            codes = [self._ended(run, container, processes[container["name"]]) for container in batch]
            run.tell()
            if any(codes) or run.stopped.is_set():
                return False
        return True

    def _started(self, run: PodRun, container: Document) -> "subprocess.Popen[bytes] | None":
        name, told = container["name"], ""
        while not run.stopped.is_set():
            try:
                process = self._start(run, container)
            except NotYet as waits:
                if str(waits) != told:
                    told = str(waits)
                    run.status.waiting(name, waits.reason, told)
                    run.tell()
                run.stopped.wait(0.5)
                continue
            run.status.running(name)
            return process
        return None

    def _start(self, run: PodRun, container: Document) -> "subprocess.Popen[bytes]":
        home = self.home(run)
        home.mkdir(parents=True, exist_ok=True)
        mounted = self._mounts(run, container)
        environment = self._variables(run, container)
        command = [*(container.get("command") or ()), *(container.get("args") or ())]
        if not container.get("command"):
            raise NotYet(
                "CreateContainerError",
                f"container {container['name']} has no command, and a simulated node knows no images; "
                "write the command into the pod",
            )
        message = home / f"{container['name']}.message"
        message.write_bytes(b"")
        local = {key: mounted.local(value) for key, value in environment.items()}
        local |= {
            WORK_VARIABLE: str(mounted.folders.get(WORK, home / "work")),
            SECRETS_VARIABLE: str(home / "secrets" / container["name"]),
            CLAIMS_VARIABLE: str(home / "claims" / container["name"]),
            TERMINATION_LOG_VARIABLE: str(message),
            "TMPDIR": mounted.local("/tmp") if "/tmp" in mounted.folders else str(home / "tmp"),  # noqa: S108
        }
        for key in (WORK_VARIABLE, SECRETS_VARIABLE, CLAIMS_VARIABLE, "TMPDIR"):
            Path(local[key]).mkdir(parents=True, exist_ok=True)
        words = [mounted.local(_expand(word, environment)) for word in command]
        if words[0] in ("python", "python3"):
            words[0] = sys.executable
        base = {key: os.environ[key] for key in INHERITED if key in os.environ}
        with (home / f"{container['name']}.log").open("wb") as log:
            try:
                return subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=mounted.local(container["workingDir"]) if container.get("workingDir") else home,
                    env={**base, "HOME": local["TMPDIR"], **self._environment, **local},
                    start_new_session=True,  # the whole group is ended
                    preexec_fn=end_with_parent,  # noqa: PLW1509 - one system call, no lock taken
                )
            except OSError as error:
                raise NotYet("CreateContainerError", f"{words[0]}: {error.strerror}") from error

    def _ended(self, run: PodRun, container: Document, process: "subprocess.Popen[bytes]") -> int:
        name, reason = container["name"], ""
        while process.poll() is None:
            if name in run.doomed:
                reason = run.doomed.pop(name)
                _signal(process, signal.SIGKILL)
            elif run.stopped.is_set():
                self._terminate(run, process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        _signal(process, signal.SIGKILL)  # what it started and left behind
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        run.status.ended(name, code, self._message(run, container, code), reason)
        return int(code)

    def _end_all(self, run: PodRun, processes: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
        for container in run.pod["spec"]["containers"]:
            if container["name"] in processes:
                self._ended(run, container, processes[container["name"]])

    def _terminate(self, run: PodRun, process: "subprocess.Popen[bytes]") -> None:
        pod = run.pod
        grace = pod["metadata"].get("deletionGracePeriodSeconds")
        if grace is None:
            grace = pod["spec"].get("terminationGracePeriodSeconds", GRACE_SECONDS)
        _signal(process, signal.SIGTERM)
        end = time.monotonic() + float(grace)
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        _signal(process, signal.SIGKILL)

    def _message(self, run: PodRun, container: Document, code: int) -> str:
        home = self.home(run)
        text = (home / f"{container['name']}.message").read_text(errors="replace")
        if not text and code and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            lines = (home / f"{container['name']}.log").read_text(errors="replace").splitlines()
            text = "\n".join(lines[-TAIL_LINES:]).encode()[-TAIL_BYTES:].decode(errors="ignore")
        return text

    # --- what a container is given ---

    def _mounts(self, run: PodRun, container: Document) -> _Mounted:
        home, mounted = self.home(run), _Mounted()
        volumes = {volume["name"]: volume for volume in run.pod["spec"].get("volumes") or ()}
        for mount in container.get("volumeMounts") or ():
            path, volume = mount["mountPath"].rstrip("/"), volumes[mount["name"]]
            local = self._volume(run, volume)
            if local is None:
                continue
            if mount.get("subPath"):
                local = local / mount["subPath"]
            mounted.folders[path] = local
            for root, own in ((SECRETS, "secrets"), (CLAIMS, "claims")):
                if path.startswith(root + "/"):
                    link = home / own / container["name"] / path[len(root) + 1 :]
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.unlink(missing_ok=True)
                    link.symlink_to(local)
        return mounted

    def _volume(self, run: PodRun, volume: Document) -> Path | None:
        folder = self.home(run) / "volumes" / volume["name"]
        if "persistentVolumeClaim" in volume:
            return self.claim(run.namespace, volume["persistentVolumeClaim"]["claimName"])
        if "emptyDir" in volume:
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        for key, plural, named in (("secret", "secrets", "secretName"), ("configMap", "configmaps", "name")):
            if key in volume:
                source = volume[key]
                content = self._content(run, plural, source[named], bool(source.get("optional")))
                wanted = {item["key"]: item["path"] for item in source.get("items") or ()} or {
                    k: k for k in content
                }
                folder.mkdir(parents=True, exist_ok=True)
                for entry, path in wanted.items():
                    if entry not in content:
                        raise NotYet("ContainerCreating", f'references non-existent {key} key: "{entry}"')
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_bytes(content[entry])
                return folder
        return None  # projected tokens, downward API, devices of the host: not played

    def _content(
        self, run: PodRun, plural: str, name: str, optional: bool, reason: str = ""
    ) -> dict[str, bytes]:
        try:
            found = self._api.get(f"/api/v1/namespaces/{run.namespace}/{plural}/{name}")
        except Refused as refused:
            if refused.code == 404 and optional:
                return {}
            if refused.code == 404:
                raise NotYet(
                    reason or "ContainerCreating", f'{plural.rstrip("s")} "{name}" not found'
                ) from refused
            raise
        if plural == "configmaps":
            plain = {key: text.encode() for key, text in (found.get("data") or {}).items()}
            binary = found.get("binaryData") or {}
            return plain | {key: base64.b64decode(text) for key, text in binary.items()}
        return {key: base64.b64decode(text) for key, text in (found.get("data") or {}).items()}

    def _variables(self, run: PodRun, container: Document) -> dict[str, str]:
        found: dict[str, str] = {}
        config = "CreateContainerConfigError"
        for source in container.get("envFrom") or ():
            for key, plural in (("secretRef", "secrets"), ("configMapRef", "configmaps")):
                if key in source:
                    reference = source[key]
                    content = self._content(
                        run, plural, reference["name"], bool(reference.get("optional")), config
                    )
                    found |= {source.get("prefix", "") + k: v.decode() for k, v in content.items()}
        for variable in container.get("env") or ():
            if "valueFrom" in variable:
                value = self._value_from(run, container, variable["valueFrom"])
                if value is not None:
                    found[variable["name"]] = value
            else:
                found[variable["name"]] = _expand(variable.get("value", ""), found)
        return found

    def _value_from(self, run: PodRun, container: Document, source: Document) -> str | None:
        if "fieldRef" in source:
            return _field(run, source["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in source:
            return _resource(container, source["resourceFieldRef"])
        for key, plural in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
            if key in source:
                reference = source[key]
                optional = bool(reference.get("optional"))
                reason = "CreateContainerConfigError"
                content = self._content(run, plural, reference["name"], optional, reason)
                if reference["key"] in content:
                    return content[reference["key"]].decode()
                if optional:
                    return None
                raise NotYet(reason, f"couldn't find key {reference['key']} in {plural} {reference['name']}")
        raise ValueError(f"container {container['name']}: env valueFrom {sorted(source)} is not known")


def _field(run: PodRun, path: str) -> str:
    metadata = run.pod["metadata"]
    for group in ("labels", "annotations"):
        match = re.fullmatch(rf"metadata\.{group}\['(.+)'\]", path)
        if match:
            return str((metadata.get(group) or {}).get(match[1], ""))
    known = {
        "metadata.name": run.name,
        "metadata.namespace": run.namespace,
        "metadata.uid": run.uid,
        "spec.nodeName": run.node,
        "spec.serviceAccountName": run.pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": "127.0.0.1",
        "status.hostIP": "127.0.0.1",
    }
    if path not in known:
        raise ValueError(f"fieldPath {path} is not known to a simulated node; known: {', '.join(known)}")
    return known[path]


def _resource(container: Document, reference: Document) -> str:
    bound, _, name = reference["resource"].partition(".")
    resources = container.get("resources") or {}
    text = (resources.get(bound) or {}).get(name) or (resources.get("limits") or {}).get(name)
    if text is None:
        raise ValueError(
            f"container {container['name']} has no {reference['resource']}, which its env asks for"
        )
    divisor = reference.get("divisor") or "1"
    return str(math.ceil(parse_quantity(str(text)) / parse_quantity("1" if divisor == "0" else str(divisor))))


def _expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` as Kubernetes expands it: unknown names stay, `$$` is `$`."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
