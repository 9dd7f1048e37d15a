"""The Pod Security Standard `restricted`, as far as pods can break it here.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator
from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def faults(spec: dict[str, Any]) -> list[str]:
    """What a pod's spec has that `restricted` forbids, or lacks that it demands."""
    return list(_faults(spec))


def _faults(spec: dict[str, Any]) -> Iterator[str]:
    yield from (f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes", []):
        if unknown := set(volume) - {"name"} - _VOLUMES:
            yield f"volume {volume['name']} is a {unknown.pop()}"
    pod = spec.get("securityContext", {})
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        name, own = container["name"], container.get("securityContext", {})
        both = {**pod, **own}
        if both.get("runAsNonRoot") is not True:
            yield f"{name}: runAsNonRoot is not true"
        if both.get("runAsUser") == 0:
            yield f"{name}: runAsUser is 0"
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: no seccompProfile"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation is not false"
        if own.get("privileged"):
            yield f"{name}: privileged"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []):
            yield f"{name}: capabilities are not dropped"
        if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name}: capabilities are added"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name}: a hostPort"
