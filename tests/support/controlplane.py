"""A Kubernetes control plane of our own: etcd, kube-apiserver, kube-controller-manager and kube-scheduler as
processes on loopback, in one folder. `make controlplane` builds the binaries.

From the repository's root, to have one by hand:

    PYTHONPATH=tests .venv/bin/python -m support.controlplane up       # until Ctrl-C; --detach to leave it
    PYTHONPATH=tests .venv/bin/python -m support.controlplane down

There is no node in it: support.simulated_node plays nodes.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import click
import yaml
from controlplane.build import NotBuilt, binaries
from urllib3.exceptions import HTTPError

from .api_server import ApiServer, Refused
from .certificates import Authority, write_signing_key

TESTS = Path(__file__).resolve().parents[1]
SERVICES = "10.96.0.0/16"
READY_SECONDS = 120.0
"""A loaded machine needs long; a failure to start is seen at once by the end of the process."""
PORT_ATTEMPTS = 3
"""A port that was free may be taken before its component listens on it."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
}


class DidNotStart(Exception):
    """A component ended, or was not ready in time; the text has the end of its log."""


class ControlPlane:
    """A control plane in a folder; use it as a context manager.

    It ends with the process that started it, however that ends (Linux). What was in etcd stays in the folder,
    and a second control plane there goes on from it.

    Args:
        folder: certificates, kubeconfigs, logs (`logs/COMPONENT.log`) and etcd's data.
        audit: level of the audit log `logs/audit.log` (Metadata, Request, RequestResponse); empty: none.
        arguments: more flags by component, such as `{"kube-apiserver": ["--v=4"]}`; they come last.
        address: address that the API server listens on.
        names: more addresses and names in the API server's certificate.
        found: the folder with the binaries; absent: what `make controlplane` built.

    Raises:
        NotBuilt: when there are no binaries.
    """

    def __init__(
        self,
        folder: Path,
        *,
        audit: str = "",
        arguments: Mapping[str, Sequence[str]] | None = None,
        address: str = "127.0.0.1",
        names: Sequence[str] = (),
        found: Path | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.kubeconfig = self.folder / "admin.kubeconfig"
        self.url = ""
        self._binaries = found or binaries()
        self._audit, self._arguments, self._address, self._names = audit, arguments or {}, address, names
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all four, and come back when a ServiceAccount is there and pods can be created.

        Raises:
            DidNotStart: with the log's end.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._start()
            except DidNotStart as error:
                self.stop()
                taken = "address already in use" in str(error)
                if not taken or attempt == PORT_ATTEMPTS - 1:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                return

    def stop(self) -> None:
        """End all processes at once. etcd does not mind: only a machine that dies loses what is unwritten."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by component."""
        return {name: process.pid for name, process in self._processes.items()}

    def memory(self) -> dict[str, int]:
        """Resident set by component in bytes (Linux)."""
        page = os.sysconf("SC_PAGE_SIZE")
        return {
            name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            for name, pid in self.pids.items()
        }

    def kubeconfig_of_user(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for somebody with this name and these groups, and no rights but theirs."""
        return kubeconfig_of_user(self.folder, user, groups)

    def check(self) -> None:
        """All components run.

        Raises:
            DidNotStart: naming the one that does not.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise DidNotStart(f"{name} ended with {process.returncode}:\n{self._tail(name)}")

    def _start(self) -> None:
        pki = Authority(self.folder / "pki")
        signing = self.folder / "pki" / "tokens.key"
        if not signing.exists():
            write_signing_key(signing)
        client_port, peer_port, port = free_ports(3)
        self.url = f"https://{self._address}:{port}"
        certificate, key = pki.server(
            "kube-apiserver",
            [self._address, "127.0.0.1", "10.96.0.1", "localhost", "kubernetes.default.svc", *self._names],
        )
        etcd, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        self._run(
            "etcd",
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--bind-address={self._address}",
            f"--secure-port={port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={pki.certificate}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={signing}",
            f"--service-account-signing-key-file={signing}",
            f"--service-cluster-ip-range={SERVICES}",
            # Its own endpoints would be a loopback address, which the API forbids; nothing asks for them.
            "--endpoint-reconciler-type=none",
            "--allow-privileged=true",
            *self._audit_flags(),
        )
        write_kubeconfig(self.kubeconfig, self.url, pki.certificate, pki.client("admin", ["system:masters"]))
        self._until(self._is_ready, "kube-apiserver")
        for component, more in (
            (
                "kube-controller-manager",
                (
                    f"--service-account-private-key-file={signing}",
                    f"--root-ca-file={pki.certificate}",
                    "--use-service-account-credentials",
                    "--pvclaimbinder-sync-period=1s",  # 15 s otherwise, when claim and volume come at once
                    "--kube-api-qps=500",
                    "--kube-api-burst=1000",
                ),
            ),
            ("kube-scheduler", ("--kube-api-qps=500", "--kube-api-burst=1000")),
        ):
            own = self.folder / f"{component}.kubeconfig"
            write_kubeconfig(own, self.url, pki.certificate, pki.client(f"system:{component}"))
            self._run(
                component,
                f"--kubeconfig={own}",
                f"--authentication-kubeconfig={own}",
                f"--authorization-kubeconfig={own}",
                "--authentication-skip-lookup",
                "--leader-elect=false",
                "--secure-port=0",
                *more,
            )
        self._until(self._has_accounts, "kube-controller-manager")

    def _run(self, component: str, *flags: str) -> None:
        binary = self._binaries / ("etcd" if component == "etcd" else "controlplane")
        command = [str(binary), *([] if component == "etcd" else [component])]
        with (self.logs / f"{component}.log").open("ab") as log:
            self._processes[component] = subprocess.Popen(
                [*command, *flags, *self._arguments.get(component, ())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is ours to handle
                preexec_fn=end_with_parent,  # noqa: PLW1509 - one system call, no lock taken
            )

    def _audit_flags(self) -> list[str]:
        if not self._audit:
            return []
        policy = self.folder / "audit-policy.yaml"
        policy.write_text(yaml.safe_dump({**AUDIT_POLICY, "rules": [{"level": self._audit}]}))
        return [f"--audit-policy-file={policy}", f"--audit-log-path={self.logs / 'audit.log'}"]

    def _until(self, done: Callable[[], bool], component: str) -> None:
        end = time.monotonic() + READY_SECONDS
        while not done():
            self.check()
            if time.monotonic() > end:
                raise DidNotStart(
                    f"{component}: not ready in {READY_SECONDS:.0f} s:\n{self._tail(component)}"
                )
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        with ApiServer(self.kubeconfig) as api, contextlib.suppress(Refused, OSError, HTTPError):
            return bool(api.call("GET", "/readyz", timeout=10)["text"] == "ok")
        return False

    def _has_accounts(self) -> bool:
        with ApiServer(self.kubeconfig) as api:
            return api.find("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def _tail(self, component: str) -> str:
        return "\n".join((self.logs / f"{component}.log").read_text(errors="replace").splitlines()[-15:])


def kubeconfig_of_user(folder: Path, user: str, groups: Sequence[str] = ()) -> Path:
    """A kubeconfig for a user of the control plane in `folder`; any process that can read it may ask."""
    admin = yaml.safe_load((folder / "admin.kubeconfig").read_text())
    pki = Authority(folder / "pki")
    pair = pki.client(user, groups)
    file = folder / f"{pair[0].stem}.kubeconfig"
    write_kubeconfig(file, admin["clusters"][0]["cluster"]["server"], pki.certificate, pair)
    return file


def kubeconfig_of_account(
    api: ApiServer, namespace: str, account: str, file: Path, seconds: int = 24 * 3600
) -> Path:
    """A kubeconfig, written to `file`, with a token of a ServiceAccount; works with any cluster.

    Raises:
        Refused: when there is no such account.
    """
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": seconds},
    }
    answer = api.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", request)
    own = yaml.safe_load(api.kubeconfig.read_text())
    context = next(c["context"] for c in own["contexts"] if c["name"] == own["current-context"])
    cluster = next(c for c in own["clusters"] if c["name"] == context["cluster"])
    name = f"system:serviceaccount:{namespace}:{account}"
    _write(file, cluster, name, {"token": answer["status"]["token"]}, namespace)
    return file


def write_kubeconfig(file: Path, url: str, authority: Path, pair: tuple[Path, Path]) -> None:
    """A kubeconfig with a client certificate and its key."""
    cluster = {"name": "tests", "cluster": {"server": url, "certificate-authority": str(authority)}}
    certificate, key = pair
    _write(file, cluster, "user", {"client-certificate": str(certificate), "client-key": str(key)}, "default")


def _write(
    file: Path, cluster: dict[str, Any], user: str, credentials: dict[str, str], namespace: str
) -> None:
    context = {"cluster": cluster["name"], "user": user, "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": "tests", "context": context}],
        "current-context": "tests",
    }
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(document, sort_keys=False))


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now."""
    with contextlib.ExitStack() as open_until_all_are_known:
        sockets = [open_until_all_are_known.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def end_with_parent() -> None:
    """Between fork and exec: the kernel shall kill the child when the thread that started it is gone."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


# --- by hand -----------------------------------------------------------------------------------------------


HAND = Path(tempfile.gettempdir()) / f"paretune-controlplane-{os.getuid()}"
"""Where one by hand lives unless said otherwise."""


def _answers(folder: Path) -> bool:
    try:
        pid = int((folder / "pid").read_text())
        os.kill(pid, 0)
        with ApiServer(folder / "admin.kubeconfig") as api:
            return bool(api.call("GET", "/readyz")["text"] == "ok")
    except (OSError, ValueError, Refused, HTTPError):
        return False


def _launch(folder: Path, *options: str) -> None:
    binaries()
    (folder / "pid").unlink(missing_ok=True)
    log = folder / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.controlplane", "up", "--folder", str(folder), *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=TESTS,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            start_new_session=True,
        )
    while not (folder / "pid").exists():
        if process.poll() is not None:
            raise DidNotStart(log.read_text(errors="replace")[-4000:])
        time.sleep(0.05)


_folder = click.option(
    "--folder", type=click.Path(path_type=Path), default=HAND, show_default=True, help="Where it lives."
)


@click.group(help="A Kubernetes control plane without nodes, for tests and experiments.")
def main() -> None:
    pass


@main.command()
@_folder
@click.option("--detach", is_flag=True, help="Come back when it is ready, and leave it running.")
@click.option("--audit", default="", help="Level of logs/audit.log: Metadata, Request, RequestResponse.")
@click.option("--fresh", is_flag=True, help="Forget what was in the folder.")
@click.option("--crds/--no-crds", default=False, help="Apply the definitions in crds/.")
def up(folder: Path, detach: bool, audit: str, fresh: bool, crds: bool) -> None:
    """Start one; Ctrl-C ends it."""
    if _answers(folder):
        raise click.ClickException(
            f"one runs in {folder} already: export KUBECONFIG={folder / 'admin.kubeconfig'}"
        )
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        if detach:
            folder.mkdir(parents=True, exist_ok=True)
            options = [*(["--audit", audit] if audit else []), *(["--crds"] if crds else [])]
            _launch(folder, *options)
            click.echo(f"export KUBECONFIG={folder / 'admin.kubeconfig'}")
            return
        signal.signal(signal.SIGTERM, _interrupt)
        with ControlPlane(folder, audit=audit) as plane:
            if crds:
                install_definitions(plane.kubeconfig)
            pid = folder / "pid"
            pid.with_suffix(".new").write_text(str(os.getpid()))
            pid.with_suffix(".new").replace(pid)
            click.echo(f"export KUBECONFIG={plane.kubeconfig}")
            with contextlib.suppress(KeyboardInterrupt):
                while True:
                    plane.check()
                    time.sleep(1)
            pid.unlink(missing_ok=True)
    except (NotBuilt, DidNotStart) as error:
        raise click.ClickException(str(error)) from None


@main.command()
@_folder
def down(folder: Path) -> None:
    """End the one that runs in the folder."""
    try:
        pid = int((folder / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
    except (OSError, ValueError):
        raise click.ClickException(f"none runs in {folder}") from None
    while (folder / "pid").exists():
        time.sleep(0.05)


def install_definitions(kubeconfig: Path) -> None:
    """Apply the definitions in crds/, and come back when the API server serves them.

    Raises:
        Refused: when the API server does not take one.
        TimeoutError: when one is not served in READY_SECONDS.
    """
    with ApiServer(kubeconfig) as api:
        files = sorted((TESTS.parent / "crds").glob("*.yaml"))
        paths = [f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{file.stem}" for file in files]
        for file in files:
            api.apply(yaml.safe_load(file.read_text()))
        for path in paths:
            end = time.monotonic() + READY_SECONDS
            while not _is_served(api, path):
                if time.monotonic() > end:
                    raise TimeoutError(f"{path}: not served after {READY_SECONDS:.0f} s")
                time.sleep(0.2)


def _is_served(api: ApiServer, path: str) -> bool:
    definition = api.get(path)
    conditions = {c["type"]: c["status"] for c in definition.get("status", {}).get("conditions", ())}
    spec = definition["spec"]
    if conditions.get("Established") != "True":
        return False
    # Established is said a moment before it is so: 404, then 429 while its storage is made.
    with contextlib.suppress(Refused):
        api.get(f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")
        return True
    return False


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
