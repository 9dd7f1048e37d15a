#!/usr/bin/env python3
"""What `make e2e` needs of the machine: look at once, install what apt has, and say what is missing.

Standard library only: it runs before there is a .venv.
"""

import os
import platform
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build/e2e"
KUBECONFIG = "PARETUNE_E2E_KUBECONFIG"
"""Environment variable that names a kubeconfig: the run then uses that cluster, and no node is made here."""
CONTROLPLANE = "PARETUNE_CONTROLPLANE"
DISK_GB, DISK_AGAIN_GB = 20, 11
"""Images in buildah's store (5), archives (4), containerd's copy packed and unpacked (8), and room; a second
time the first two are there."""
COMMANDS: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "unshare": "util-linux",
    "mount": "mount",
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "dpkg-deb": "dpkg",
}
"""Package by the command that is looked for."""
FILES: Mapping[str, tuple[Path, ...]] = {
    "containernetworking-plugins": (Path("/usr/lib/cni/bridge"), Path("/opt/cni/bin/bridge")),
    "debian-archive-keyring": (Path("/usr/share/keyrings/debian-archive-keyring.gpg"),),
    "ca-certificates": (Path("/etc/ssl/certs/ca-certificates.crt"),),
}
"""Files of packages without a command: one of them is enough."""
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
QEMU_OLDEST = (10, 0)
"""7.2 crashes in LiteRT, which reads an ARM processor's features from /proc/cpuinfo."""
BACKPORTS = "deb [signed-by={keyring}] {mirror} bookworm-backports main\n"


class Missing(Exception):
    """The machine lacks something; the text names it and the cure."""


@dataclass(frozen=True)
class Machine:
    """What matters of a machine, looked at once.

    Attributes:
        system: such as Linux.
        architecture: such as x86_64.
        root: we are root.
        go: Go is on PATH, or the control plane is built already.
        namespaces: namespaces can be made.
        apt: packages can be installed.
        packages: packages that are missing.
        free_gb: room on the disk of the repository.
        needed_gb: what a run takes of it.
        filesystem: of that disk, as the kernel calls it.
    """

    system: str
    architecture: str
    root: bool
    go: bool
    namespaces: bool
    apt: bool
    packages: tuple[str, ...]
    free_gb: float
    needed_gb: float
    filesystem: str


def look() -> Machine:
    """This machine."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    apart = ["unshare", "--net", "--mount", "--pid", "--fork", "true"]
    OUT.mkdir(parents=True, exist_ok=True)
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        root=root,
        go=bool(shutil.which("go") or os.environ.get(CONTROLPLANE)),
        namespaces=root and bool(shutil.which("unshare")) and _works(*apart),
        apt=bool(shutil.which("apt-get")),
        packages=missing_packages(),
        free_gb=shutil.disk_usage(OUT).free / 1e9,
        needed_gb=DISK_AGAIN_GB if (OUT / "archives").is_dir() else DISK_GB,
        filesystem=filesystem(OUT),
    )


def missing_packages() -> tuple[str, ...]:
    """Packages of apt whose command or file is not there."""
    found = [package for command, package in COMMANDS.items() if shutil.which(command) is None]
    found += [package for package, files in FILES.items() if not any(file.exists() for file in files)]
    return tuple(dict.fromkeys(found))


def faults(machine: Machine) -> list[str]:
    """Why a node cannot be had here, one sentence each; empty: it can, once packages are installed."""
    if (machine.system, machine.architecture) != ("Linux", "x86_64"):
        return [f"a node is made on Linux on x86_64, and this is {machine.system} on {machine.architecture}"]
    found = []
    if not machine.root:
        found.append("a node needs root: run it with sudo, or as root in a virtual machine")
    if not machine.go:
        found.append(
            "Go is not on PATH, and control plane and kubelet are built with it: https://go.dev/dl/, or let "
            f"{CONTROLPLANE} name a folder with both binaries"
        )
    if machine.packages and not machine.apt:
        found.append(f"not installed, and there is no apt-get to install it: {', '.join(machine.packages)}")
    if machine.root and not machine.namespaces and "util-linux" not in machine.packages:
        found.append(
            "namespaces cannot be made (unshare failed): run outside a container, or in a privileged one"
        )
    if machine.free_gb < machine.needed_gb:
        found.append(
            f"{OUT}: {machine.free_gb:.0f} GB are free, and a run takes up to {machine.needed_gb:.0f} GB"
        )
    if machine.filesystem in ("overlay", "tmpfs", "ramfs"):
        found.append(
            f"{OUT} is on {machine.filesystem}, and a node needs a disk: mount one there, or clone to one"
        )
    return found


def filesystem(folder: Path) -> str:
    """Type of the file system that a folder is on, as /proc/mounts has it; empty where there is no /proc."""
    try:
        lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    above = [(len(words[1]), words[2]) for words in lines if folder.is_relative_to(words[1])]
    return max(above)[1] if above else ""


def install(packages: tuple[str, ...], log: Path) -> None:
    """Install packages by apt; it never removes one for that.

    Raises:
        Missing: with the end of the log.
    """
    if packages:
        _apt("update", log=log)
        _apt("install", "--yes", "--no-install-recommends", "--no-remove", *packages, log=log)
        left = missing_packages()
        if left:
            raise Missing(f"still not there after apt-get install: {', '.join(left)}; see {log}")


def emulator(folder: Path, log: Path) -> Path:
    """An emulator of arm64 that is new enough, static, and therefore of use in containers.

    Args:
        folder: where one is unpacked if the machine has none; nothing is installed.
        log: for what apt says.

    Raises:
        Missing: when the machine has none and Debian's backports neither.
    """
    unpacked = folder / "qemu-aarch64"
    for file in (*(Path(found) for name in EMULATORS if (found := shutil.which(name))), unpacked):
        if file.is_file() and is_static(file) and emulator_version(file) >= QEMU_OLDEST:
            return file.resolve()
    _take_backport("qemu-user", "usr/bin/qemu-aarch64", folder, log)
    if not (unpacked.is_file() and is_static(unpacked) and emulator_version(unpacked) >= QEMU_OLDEST):
        raise Missing(
            f"no static qemu-aarch64 {QEMU_OLDEST[0]} or newer on PATH, and Debian's backports gave "
            f"none (see {log}); leave arm64 out by E2E_ARGS=--without-arm64"
        )
    return unpacked.resolve()


def emulator_version(file: Path) -> tuple[int, ...]:
    """Version of a qemu; empty when it does not say."""
    done = subprocess.run([str(file), "--version"], check=False, capture_output=True, text=True)
    words = done.stdout.split()
    text = words[words.index("version") + 1] if "version" in words[:-1] else ""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def is_static(file: Path) -> bool:
    """An ELF program (64 bits, little-endian) that asks for no interpreter."""
    head = file.read_bytes()[:4096]
    if head[:6] != b"\x7fELF\x02\x01":
        return False
    (offset,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    kinds = [struct.unpack_from("<I", head, offset + i * size)[0] for i in range(count)]
    return 3 not in kinds  # PT_INTERP


def _take_backport(package: str, path: str, folder: Path, log: Path) -> None:
    """Take a file out of a package of bookworm-backports; apt's own lists and sources stay as they are."""
    state = folder / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    mirror = os.environ.get("PARETUNE_E2E_MIRROR", "http://deb.debian.org/debian")
    keyring = FILES["debian-archive-keyring"][0]
    (state / "sources.list").write_text(BACKPORTS.format(keyring=keyring, mirror=mirror))
    own = [
        "-o", f"Dir::Etc::sourcelist={state / 'sources.list'}", "-o", "Dir::Etc::sourceparts=-",
        "-o", f"Dir::State::lists={state / 'lists'}", "-o", f"Dir::Cache={state / 'cache'}",
        "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    _apt(*own, "update", log=log)
    _apt(*own, "download", package, log=log, cwd=state)
    for file in sorted(state.glob(f"{package}_*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(file), str(state / "unpacked")], check=True)
    if (state / "unpacked" / path).is_file():
        shutil.move(state / "unpacked" / path, folder)
    shutil.rmtree(state)


def _apt(*arguments: str, log: Path, cwd: Path | None = None) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        done = subprocess.run(
            ["apt-get", *arguments], check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            cwd=cwd, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
    if done.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
        raise Missing(f"apt-get {' '.join(a for a in arguments if a[0] != '-')} failed, see {log}:\n{end}")


def _works(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def main() -> int:
    """Say what is missing, before anything takes time; returns the exit code."""
    named = os.environ.get(KUBECONFIG)
    if named:
        if Path(named).is_file():
            return 0
        sys.stderr.write(f"e2e: {KUBECONFIG}={named}: there is no such file\n")
        return 1
    machine = look()
    for fault in faults(machine):
        sys.stderr.write(f"e2e: {fault}\n")
    if faults(machine):
        sys.stderr.write(
            f"e2e: or let {KUBECONFIG} name the kubeconfig of a cluster (kind, k3d, any other)\n"
        )
        return 1
    if machine.packages:
        sys.stderr.write(f"e2e: will be installed by apt: {' '.join(machine.packages)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
