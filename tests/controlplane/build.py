#!/usr/bin/env python3
"""Build the control plane that tests/cluster talks to: four Kubernetes components in one binary, and etcd.

The folder gets `controlplane`, `etcd` and `stamp`, a digest of everything that they are built from; where the
stamp fits, nothing is built. Standard library only, so that any Python can run it before there is a .venv.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = ("build.py", "go.mod", "go.sum", "main.go", "etcd/go.mod", "etcd/go.sum")
BINARIES = ("controlplane", "etcd")
DEFAULT = HERE.parents[1] / ".tools" / "controlplane"
PREBUILT = "PARETUNE_CONTROLPLANE"
"""Environment variable that names a folder where both binaries are already; it is used as it is."""
NOT_RUN = "the tests with a real API server did not run"
"""Begins the reason of each test that was skipped for want of a control plane."""
STRIPPED = "-s -w"


class NotBuilt(Exception):
    """There is no control plane to start, and the text says how to get one."""


def digest() -> str:
    """sha256 over what the binaries are built from, hex."""
    found = hashlib.sha256()
    for name in SOURCES:
        content = (HERE / name).read_bytes()
        found.update(f"{name} {len(content)}\n".encode() + content)
    return found.hexdigest()


def is_fresh(folder: Path) -> bool:
    """Both binaries are there, built from the sources as they are now."""
    stamp = folder / "stamp"
    return (
        all((folder / name).is_file() for name in BINARIES)
        and stamp.is_file()
        and stamp.read_text().strip() == digest()
    )


def binaries() -> Path:
    """The folder with both binaries.

    Raises:
        NotBuilt: when there are none, or they are of other sources.
    """
    named = os.environ.get(PREBUILT)
    if named:
        folder = Path(named).expanduser().resolve()
        missing = [name for name in BINARIES if not os.access(folder / name, os.X_OK)]
        if missing:
            raise NotBuilt(
                f"{PREBUILT}={named}: no executable {' and no '.join(missing)} there; `make controlplane` "
                f"builds both into {DEFAULT}"
            )
        return folder
    if not is_fresh(DEFAULT):
        raise NotBuilt(
            f"no control plane in {DEFAULT}, or one of other sources: run `make controlplane` (Go on PATH; "
            f"minutes, once), or let {PREBUILT} name a folder with {' and '.join(BINARIES)}"
        )
    return DEFAULT


def build(folder: Path) -> None:
    """Build what is not there yet. Takes minutes the first time, and 4 GB of Go's caches.

    Raises:
        NotBuilt: when Go is not on PATH.
        subprocess.CalledProcessError: when Go fails; its output went to standard error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / ".lock"):
        if is_fresh(folder):
            return
        if shutil.which("go") is None:
            raise NotBuilt(
                "Go is not on PATH, and the control plane for tests is built with it: https://go.dev/dl/"
            )
        version = _kubernetes_version()
        major, minor, _ = version.split(".")
        names = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        stamped = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in names.items())
        began = time.monotonic()
        _say(f"building Kubernetes {version}'s control plane for the tests: minutes, once")
        _go(HERE, folder / "controlplane", f"{STRIPPED} {stamped}", ".")
        _go(HERE / "etcd", folder / "etcd", STRIPPED, "go.etcd.io/etcd/server/v3")
        (folder / "stamp").write_text(digest() + "\n")
        _say(f"built in {time.monotonic() - began:.0f} s: {folder}")


def _go(module: Path, output: Path, flags: str, package: str) -> None:
    # readonly: go.mod and go.sum are what was committed, or the build fails.
    command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", flags]
    # A name of its own until it is whole: somebody may be running the old one.
    unfinished = output.with_suffix(".new")
    subprocess.run(
        ["nice", "-n", "5", *command, "-o", str(unfinished), package],
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
        check=True,
    )
    unfinished.replace(output)


def _kubernetes_version() -> str:
    found = re.search(
        r"^\s*k8s\.io/kubernetes v(\d+\.\d+\.\d+)$", (HERE / "go.mod").read_text(), re.MULTILINE
    )
    if found is None:
        raise ValueError(f"{HERE / 'go.mod'}: requires no k8s.io/kubernetes vX.Y.Z")
    return found[1]


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    sys.stderr.write(f"controlplane: {text}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "folder", nargs="?", type=Path, default=DEFAULT, help="where the binaries go (%(default)s)"
    )
    try:
        if os.environ.get(PREBUILT):
            binaries()
            return 0
        build(parser.parse_args().folder.resolve())
    except NotBuilt as error:
        _say(str(error))
        return 1
    except subprocess.CalledProcessError as error:
        _say(f"`{' '.join(error.cmd[3:])}` failed, see above")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
