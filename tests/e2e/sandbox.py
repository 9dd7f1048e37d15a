"""A place of its own for a node: namespaces that take processes, mounts and interfaces with them.

The node's processes run as children of one process in new network, mount and PID namespaces. When that
process is gone, however it ended, the kernel ends all others, unmounts what they mounted and removes their
interfaces. Three things are the machine's and survive a namespace: some kernel settings, cgroups, and the
emulator's registration. The process outside, which waits, puts these back.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from support.controlplane import end_with_parent

KUBELET_SETTINGS = (
    "kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom",
    "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
)  # fmt: skip
"""What the kubelet writes below /proc/sys, for the whole machine."""
INSIDE = "PARETUNE_E2E_INSIDE"
"""Environment variable that is set for the process in the namespaces."""
CGROUPS = Path("/sys/fs/cgroup")
CGROUP = "paretune-e2e"
"""Everything of the node is below this cgroup, in each hierarchy."""
PRIVATE = (
    "/run",
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/log/pods",
    "/var/log/containers",
)
BINFMT = Path("/proc/sys/fs/binfmt_misc")
ENTRY = "paretune-e2e-aarch64"
"""Name of the emulator's registration; of several for one magic number the kernel takes the newest."""
LOCK = Path("/run/lock/paretune-e2e")
LOGS: Mapping[str, str] = {"node/*.log": "node", "plane/logs/*.log": "plane", "pods/*": "pods"}
"""What is kept of the node's folder: patterns, each with the folder below the logs that it goes to."""
PID = "pid"
"""File below the node's folder with the number that process 1 has outside."""
PATIENCE = 3
"""After so many signals the namespaces are ended from outside."""
ARM64 = (
    rb"M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)


class Busy(Exception):
    """Another node of this kind runs on the machine."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One node at a time: cgroups, settings and the emulator's registration are the machine's.

    Raises:
        Busy: when there is one.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another run has the machine's only node ({LOCK} is locked): wait for it") from None
        yield


def enter(command: Sequence[str], folder: Path, logs: Path) -> int:
    """Run a command inside, as process 1, and clean up after it; returns its exit code.

    Args:
        command: what runs inside.
        folder: on a disk; what the node keeps there is removed before and after.
        logs: where LOGS are kept.
    """
    with _restored_settings(), _removed_cgroups(), _removed(folder), _kept(folder, logs):
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *command],
            env={**os.environ, INSIDE: str(folder)},
            start_new_session=True,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - one system call, no lock taken
        )
        signals = 0
        _write_pid(process, folder / PID)

        def forward(number: int, _: object) -> None:
            nonlocal signals
            signals += 1
            with contextlib.suppress(OSError):
                if signals >= PATIENCE:
                    process.kill()
                for child in _children(process.pid):
                    os.kill(child, signal.SIGTERM if number != signal.SIGINT else signal.SIGINT)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, forward)  # and stays: cleaning up is not to be interrupted
        code = process.wait()
        return code if code >= 0 else 128 - code


def leftovers(folder: Path) -> list[str]:
    """Outside, afterwards: what of the node is still on the machine, one sentence each."""
    found = [f"mounted: {line.split()[1]}" for line in _lines("/proc/mounts") if str(folder) in line]
    found += [f"registered: {BINFMT / ENTRY}"] if (BINFMT / ENTRY).exists() else []
    found += [f"cgroup: {root / CGROUP}" for root in _with_cgroup()]
    return found + ([f"folder: {folder}"] if folder.exists() else [])


def settle(folder: Path) -> None:
    """Inside: give the node folders of its own in place of the machine's, and collect orphans."""
    _run("mount", "--make-rprivate", "/")
    for number, path in enumerate(PRIVATE):
        Path(path).mkdir(parents=True, exist_ok=True)
        if path == "/run":
            _run("mount", "-t", "tmpfs", "tmpfs", path)
            continue
        own = folder / ("pods" if path == "/var/log/pods" else f"private-{number}")
        own.mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(own), path)
    _run("mount", "--make-rshared", "/")  # volumes must reach the containers
    threading.Thread(target=_collect, daemon=True).start()


@contextlib.contextmanager
def emulated_arm64(emulator: Path) -> Iterator[None]:
    """Programs for arm64 run under the emulator meanwhile, also in containers that do not have it.

    Raises:
        OSError: when the kernel has no binfmt_misc.
    """
    mounted = not (BINFMT / "register").exists()
    if mounted:
        _run("mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT))
    _forget_emulator()  # of a run that was killed
    # F: opened now, so that it need not be in the container; C and O: as the program's own user.
    magic = ARM64.replace(b"ELF", rb"\x45\x4c\x46")
    rule = f":{ENTRY}:".encode() + magic + str(emulator).encode() + b":OCF"
    (BINFMT / "register").write_bytes(rule)
    try:
        yield
    finally:
        _forget_emulator()
        if mounted:
            _run("umount", str(BINFMT))


def _forget_emulator() -> None:
    if (BINFMT / ENTRY).exists():
        (BINFMT / ENTRY).write_text("-1")


@contextlib.contextmanager
def _restored_settings() -> Iterator[None]:
    files = [Path("/proc/sys", name) for name in KUBELET_SETTINGS]
    before = {file: file.read_text() for file in files if file.exists()}
    try:
        yield
    finally:
        for file, value in before.items():
            if file.read_text() != value:
                file.write_text(value)


@contextlib.contextmanager
def _removed_cgroups() -> Iterator[None]:
    _remove_cgroups()
    try:
        yield
    finally:
        _remove_cgroups()


def _remove_cgroups() -> None:
    for root in _with_cgroup():
        for attempt in range(20):
            for path, _, _ in os.walk(root / CGROUP, topdown=False):
                with contextlib.suppress(OSError):
                    Path(path).rmdir()
            if not (root / CGROUP).exists():
                break
            time.sleep(0.05 * attempt)  # the kernel takes a moment to let go of the dead


def _with_cgroup() -> list[Path]:
    return [root for root in (CGROUPS, *CGROUPS.glob("*")) if (root / CGROUP).is_dir()]


@contextlib.contextmanager
def _kept(folder: Path, logs: Path) -> Iterator[None]:
    try:
        yield
    finally:
        for pattern, name in LOGS.items():
            for file in sorted(folder.glob(pattern)):
                (logs / name).mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if file.is_dir() else shutil.copy2
                with contextlib.suppress(OSError, shutil.Error):
                    copy(file, logs / name / file.name)


@contextlib.contextmanager
def _removed(folder: Path) -> Iterator[None]:
    # Never into what is mounted there; and these are a hundred thousand files.
    remove = ["rm", "-rf", "--one-file-system", str(folder)]
    subprocess.run(remove, check=False)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        subprocess.run(remove, check=False)


def _write_pid(process: subprocess.Popen[bytes], file: Path) -> None:
    """The number of process 1, as it is outside: nsenter takes it."""
    while process.poll() is None and not (found := _children(process.pid)):
        time.sleep(0.01)
    if process.returncode is None:
        file.write_text(str(found[0]))


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]


def start(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Inside: a process that ends with this one, its output in a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def _collect() -> NoReturn:
    """Process 1 inherits what loses its parent (the shims of containers), and must wait for it."""
    while True:
        time.sleep(2)
        for pid in _children_of_all_threads():
            with contextlib.suppress(OSError, IndexError):
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                name = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")[0]
                if stat[0] == "Z" and name.startswith(("containerd-shim", "runc", "conmon")):
                    os.waitpid(pid, os.WNOHANG)


def _children_of_all_threads() -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(each) for each in file.read_text().split()]
    return found


def make_cgroup() -> None:
    """Inside: make CGROUP, below which all pods are placed, so that what is left can be found."""
    unified = (CGROUPS / "cgroup.controllers").exists()
    for root in [CGROUPS] if unified else CGROUPS.glob("*"):
        if not (root / "cgroup.procs").exists():
            continue
        own = root / CGROUP
        own.mkdir(exist_ok=True)
        if unified:
            controllers = (root / "cgroup.controllers").read_text().split()
            (root / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
        if root.name == "cpuset":
            for name in ("cpuset.cpus", "cpuset.mems"):
                (own / name).write_text((root / name).read_text())


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
