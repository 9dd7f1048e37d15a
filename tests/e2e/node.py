"""One real node: containerd, runc and the kubelet, joined to a control plane of support.controlplane.

Everything here runs inside e2e.sandbox. README.md says why each setting is as it is.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from controlplane.build import binaries
from support.api_server import ApiServer
from support.certificates import Authority
from support.controlplane import ControlPlane, write_kubeconfig

from . import sandbox

NAME = "paretune-e2e"
BRIDGE, ADDRESS, PODS = "cni0", "10.88.7.1", "10.88.7.0/24"
SOCKET = "/run/containerd/containerd.sock"
PAUSE = "localhost/paretune/pause:e2e"
"""Holds a pod's namespaces: any image whose command waits, by an absolute path (there is no PATH)."""
NEEDED = ("containerd", "ctr", "runc", "ip", "unshare", "mount")
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
READY_SECONDS = 180.0


class NodeError(Exception):
    """A node cannot be had here, or did not become ready; the text says what to do or what its log says."""


def missing() -> list[str]:
    """Names of programs that a node needs and this machine lacks."""
    found = [name for name in NEEDED if shutil.which(name) is None]
    return found + ([] if cni_folder() else ["containernetworking-plugins"])


def cni_folder() -> Path | None:
    """Where the CNI plug-ins are; None when they are not installed."""
    return next((folder for folder in CNI_FOLDERS if (folder / "bridge").exists()), None)


def network() -> None:
    """A bridge with the node's address, and a default route, which nothing ever takes."""
    for command in (
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"address add {ADDRESS}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"route add default dev {BRIDGE}",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def control_plane(folder: Path) -> ControlPlane:
    """A control plane at the node's address, which may ask kubelets for logs; not started yet."""
    certificate, key = Authority(folder / "pki").client("kube-apiserver-kubelet-client", ["system:masters"])
    return ControlPlane(
        folder,
        address=ADDRESS,
        arguments={
            "kube-apiserver": [
                f"--kubelet-client-certificate={certificate}",
                f"--kubelet-client-key={key}",
                "--kubelet-preferred-address-types=InternalIP",
            ]
        },
    )


class Node:
    """The node's processes.

    Args:
        plane: the control plane, already started.
        folder: configuration and logs.
        labels: of the node.
    """

    def __init__(self, plane: ControlPlane, folder: Path, labels: dict[str, str]) -> None:
        self._plane, self._folder, self._labels = plane, folder, labels
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def start_containerd(self) -> None:
        """Start containerd, and come back when it answers."""
        file = self._folder / "containerd.toml"
        file.write_text(_containerd(self._folder))
        cni = self._folder / "cni"
        cni.mkdir(exist_ok=True)
        (cni / "10-bridge.conflist").write_text(json.dumps(_CNI))
        self._start("containerd", "containerd", "--config", str(file))
        self._until("containerd", lambda: self._ctr("version").returncode == 0)

    def load(self, archive: Path) -> None:
        """Bring an image to the node: an archive of OCI's or Docker's form, its platform the node's own.

        Raises:
            NodeError: when containerd does not take it.
        """
        done = self._ctr("images", "import", str(archive))
        if done.returncode:
            raise NodeError(f"{archive}: {done.stderr.strip()}")

    def images(self) -> list[str]:
        """Names of the images on the node."""
        return self._ctr("images", "list", "--quiet").stdout.split()

    def start_kubelet(self) -> None:
        """Start the kubelet and the node's services, and come back when the node is Ready."""
        pki = Authority(self._plane.folder / "pki")
        kubeconfig = self._folder / "kubelet.kubeconfig"
        write_kubeconfig(
            kubeconfig, self._plane.url, pki.certificate, pki.client(f"system:node:{NAME}", ["system:nodes"])
        )
        certificate, key = pki.server(NAME, [ADDRESS, NAME])
        file = self._folder / "kubelet.yaml"
        file.write_text(yaml.safe_dump(_kubelet(pki.certificate, certificate, key, self._folder)))
        resolv = self._folder / "resolv.conf"
        resolv.write_text(f"nameserver {ADDRESS}\n")
        sandbox.make_cgroup()
        self._start(
            "services", sys.executable, "-m", "e2e.services", str(self._plane.kubeconfig), ADDRESS,
            path=str(Path(__file__).parents[1]),
        )  # fmt: skip
        self._start(
            "kubelet",
            str(binaries() / "controlplane"),
            "kubelet",
            f"--config={file}",
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            f"--node-labels={','.join(f'{k}={v}' for k, v in self._labels.items())}",
            "--v=2",
        )
        with ApiServer(self._plane.kubeconfig) as api:
            self._until("kubelet", lambda: _is_ready(api))

    def check(self) -> None:
        """All processes run.

        Raises:
            NodeError: naming the one that does not, with its log's end.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise NodeError(f"{name} ended with {process.returncode}:\n{self._tail(name)}")

    def _start(self, name: str, *command: str, path: str = "") -> None:
        environment = {"PYTHONPATH": path} if path else {}
        self._processes[name] = sandbox.start(command, self._folder / f"{name}.log", environment)

    def _ctr(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ctr", "--address", SOCKET, "--namespace", "k8s.io", *command],
            check=False, capture_output=True, text=True,
        )  # fmt: skip

    def _until(self, name: str, done: Any) -> None:
        end = time.monotonic() + READY_SECONDS
        while not done():
            self.check()
            if time.monotonic() > end:
                raise NodeError(f"{name} was not ready in {READY_SECONDS:.0f} s:\n{self._tail(name)}")
            time.sleep(0.2)

    def _tail(self, name: str) -> str:
        return "\n".join((self._folder / f"{name}.log").read_text(errors="replace").splitlines()[-15:])


@contextlib.contextmanager
def cluster(
    folder: Path, archives: Sequence[Path], labels: dict[str, str]
) -> Iterator[tuple[ControlPlane, Node]]:
    """A control plane with one node that has these images.

    Args:
        folder: where both live.
        archives: images, as OCI archives.
        labels: of the node.
    """
    network()
    with control_plane(folder / "plane") as plane:
        node = Node(plane, folder / "node", labels)
        node.start_containerd()
        for archive in archives:
            node.load(archive)
        node.start_kubelet()
        yield plane, node


def _is_ready(api: ApiServer) -> bool:
    node = api.find(f"/api/v1/nodes/{NAME}")
    conditions = (node or {}).get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


_CNI = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": PODS, "rangeStart": "10.88.7.10", "gateway": ADDRESS}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}


def _containerd(folder: Path) -> str:
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# The machine may not let processes lower their OOM score (no CAP_SYS_RESOURCE).
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_folder()}"
conf_dir = "{folder / "cni"}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""


def _kubelet(authority: Path, certificate: Path, key: Path, folder: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "tlsCertFile": str(certificate),
        "tlsPrivateKeyFile": str(key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{sandbox.CGROUP}",
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(folder / "resolv.conf"),
        "volumePluginDir": str(folder / "volume-plugins"),
        "failSwapOn": False,
        "maxPods": 60,
        # The disk is the machine's, and images are not to be had again.
        "evictionHard": {"memory.available": "200Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageMinimumGCAge": "24h",
        "shutdownGracePeriod": "0s",
        "healthzPort": 0,
        "readOnlyPort": 0,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "5s",
    }
