"""Base images without a registry: Debian with Python from apt's packages, and an image that waits.

No program of the target platform runs while they are made, so arm64's is made on any machine.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from . import images

SUITE = "bookworm"
"""Its Python is the one that the wheels in uv.lock are for here (3.11)."""
MIRROR = "PARETUNE_E2E_MIRROR"
"""Environment variable that names another mirror of Debian."""
PACKAGES = (
    "python3", "python3-venv", "ca-certificates", "libgcc-s1", "libstdc++6", "dash", "coreutils", "findutils",
)  # fmt: skip
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UNREAD = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "var/lib/apt",
    "var/cache/apt",
)
PAUSE = ["/bin/sleep", "infinity"]
"""An absolute path: the image that holds a pod's namespaces is started without PATH."""


def python(architecture: str) -> str:
    """Name of the base for an architecture."""
    return f"localhost/paretune-base:{SUITE}-{architecture}"


def make_python(architecture: str, folder: Path, storage: Path, log: Path) -> None:
    """Make the base for an architecture, if it is not in the store yet.

    Args:
        architecture: amd64 or arm64.
        folder: for the files meanwhile.
        storage: buildah's store of images.
        log: for what the programs say.

    Raises:
        NotBuilt: with the end of the log.
    """
    if images.identity(python(architecture), storage):
        return
    root = folder / f"root-{architecture}"
    subprocess.run(["rm", "-rf", str(root)], check=True)
    folder.mkdir(parents=True, exist_ok=True)
    images.run(
        [
            "mmdebstrap",
            "--variant=extract",  # only unpacked: no maintainer script runs
            f"--architectures={architecture}",
            f"--include={','.join(PACKAGES)}",
            "--format=directory",
            f"--keyring={KEYRING}",
            SUITE,
            str(root),
            os.environ.get(MIRROR, "http://deb.debian.org/debian"),
        ],
        f"base for {architecture}",
        log,
    )
    finish(root)
    archive = folder / f"root-{architecture}.tar"
    images.run(["tar", "-c", "--numeric-owner", "-C", str(root), "-f", str(archive), "."], "base", log)
    # All say that they are for this machine: containerd starts no others, whatever the kernel can run.
    commit(python(architecture), storage, log, {"os": "linux"}, archive)
    subprocess.run(["rm", "-rf", str(root), str(archive)], check=True)


def make_pause(reference: str, storage: Path, log: Path) -> None:
    """Make the image that holds a pod's namespaces, from this machine's base."""
    if not images.identity(reference, storage):
        commit(reference, storage, log, {"cmd": f'["{PAUSE[0]}", "{PAUSE[1]}"]'}, base=python("amd64"))


def finish(root: Path) -> None:
    """What the maintainer scripts would have done, as far as Python needs it."""
    shell = root / "bin/sh"
    shell.unlink(missing_ok=True)
    shell.symlink_to("dash")
    authorities = sorted((root / "usr/share/ca-certificates/mozilla").glob("*.crt"))
    (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    (root / "etc/ssl/certs/ca-certificates.crt").write_text("".join(file.read_text() for file in authorities))
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    subprocess.run(["rm", "-rf", *(str(root / each) for each in UNREAD)], check=True)


def commit(
    reference: str,
    storage: Path,
    log: Path,
    config: Mapping[str, str],
    archive: Path | None = None,
    base: str = "scratch",
) -> None:
    """An image of a base, an archive's files and a configuration."""
    buildah = images.own_buildah(storage)
    done = subprocess.run([*buildah, "from", base], check=False, capture_output=True, text=True)
    if done.returncode:
        raise images.NotBuilt(f"{reference}: buildah from {base}: {done.stderr.strip()}")
    container = done.stdout.split()[-1]
    if archive:
        images.run([*buildah, "add", "--quiet", container, str(archive), "/"], reference, log)
    flags = [word for name, value in config.items() for word in (f"--{name}", value)]
    images.run([*buildah, "config", *flags, container], reference, log)
    images.run([*buildah, "commit", "--quiet", "--rm", container, reference], reference, log)
