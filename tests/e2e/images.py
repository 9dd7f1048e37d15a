#!/usr/bin/env python3
"""Build Paretune's images: operator, compress, and benchmark for amd64 and arm64. `make images` runs this.

With buildah, podman or docker, the first of them that is there. Standard library only, so that any Python
can run it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = ("buildah", "podman", "docker")
PLATFORMS = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
"""Architecture of images by that of machines, as Python names it."""
CACHE = "/var/cache/uv"
"""Where a machine's cache of wheels is while an image is built."""
INDEX = (
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_INDEX",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_DEFAULT_TIMEOUT",
)
"""Environment variables with which people name an index of packages of their own."""


class NotBuilt(Exception):
    """An image was not built; the text says why, or where to read it."""


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        name: last part of its repository.
        dockerfile: below the repository's root.
        architecture: amd64 or arm64.
        suffix: what its tag has after the version.
    """

    name: str
    dockerfile: str
    architecture: str = "amd64"
    suffix: str = ""

    def reference(self, prefix: str, tag: str) -> str:
        """The whole name, such as ghcr.io/paretune/benchmark:0.1.0-arm64."""
        return f"{prefix}/{self.name}:{tag}{self.suffix}"


OPERATOR = Image("operator", "operator/Dockerfile")
COMPRESS = Image("compress", "jobs/compress/Dockerfile")
BENCHMARK = Image("benchmark", "jobs/benchmark/Dockerfile")
BENCHMARK_ARM64 = Image("benchmark", "jobs/benchmark/Dockerfile", "arm64", "-arm64")
IMAGES = (OPERATOR, COMPRESS, BENCHMARK, BENCHMARK_ARM64)


@dataclass(frozen=True)
class Settings:
    """What a build is told.

    Attributes:
        builder: buildah, podman or docker.
        machine: architecture of this machine, amd64 or arm64.
        bases: base image by architecture; absent: the Dockerfile's.
        version: label of the image.
        revision: label of the image.
        authorities: certificate authorities to trust while building (PEM); absent: the base's.
        environment: shell file with `NAME=value` lines that only the build knows.
        wheels: folder with uv's cache, shared with the build; not with docker.
        storage: folder of buildah's for images, in place of the machine's; buildah only.
    """

    builder: str
    machine: str = "amd64"
    bases: Mapping[str, str] = field(default_factory=dict)
    version: str = "0.1.0"
    revision: str = "unknown"
    authorities: Path | None = None
    environment: Path | None = None
    wheels: Path | None = None
    storage: Path | None = None


def builder(wanted: str = "") -> str:
    """The program that builds images here.

    Raises:
        NotBuilt: when there is none, or the wanted one is not there.
    """
    for name in [wanted] if wanted else BUILDERS:
        if shutil.which(name) and (name != "docker" or _answers("docker", "info")):
            return name
    if wanted:
        raise NotBuilt(
            f"{wanted} is not on PATH{', or its daemon does not answer' if wanted == 'docker' else ''}"
        )
    raise NotBuilt(
        "no buildah, no podman and no docker with a running daemon: install one of them, such as by "
        "`apt-get install buildah`"
    )


def own_buildah(folder: Path) -> list[str]:
    """Buildah with a store of its own, in namespaces that end with it: no process and no mount is left."""
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    store = [
        "--root",
        str(folder / "images"),
        "--runroot",
        str(folder / "run"),
        "--storage-driver",
        "overlay",
    ]
    return [*apart, "buildah", *store]


def build_command(image: Image, reference: str, settings: Settings) -> list[str]:
    """The command that builds one image, to be run in the repository's root."""
    arguments = {"VERSION": settings.version, "REVISION": settings.revision}
    base = settings.bases.get(image.architecture, "")
    if base:
        arguments |= {
            "PYTHON_IMAGE": base,
            "BUILD_IMAGE": settings.bases.get(settings.machine, base),
        }
    command = own_buildah(settings.storage) if settings.storage else [settings.builder]
    if settings.builder == "docker":
        command += ["build", "--platform", f"linux/{image.architecture}"]
    else:
        # They need the fewest rights, and the steps only download and unpack.
        command += ["build", "--layers", "--isolation", "chroot", "--network", "host"]
        # Some of their versions don't set these themselves.
        arguments |= {"TARGETARCH": image.architecture, "BUILDPLATFORM": f"linux/{settings.machine}"}
        if not base.startswith("localhost/"):  # a local image of another platform is found by its name alone
            command += ["--platform", f"linux/{image.architecture}"]
        if settings.wheels:
            command += ["--volume", f"{settings.wheels}:{CACHE}"]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for name, file in (("ca.crt", settings.authorities), ("build.env", settings.environment)):
        if file:
            command += ["--secret", f"id={name},src={file}"]
    return [*command, "--tag", reference, "--file", image.dockerfile, "."]


def build(image: Image, reference: str, settings: Settings, log: Path | None = None) -> None:
    """Build one image.

    Args:
        image: which.
        reference: its name.
        settings: with what.
        log: where the builder's output goes; absent: to ours.

    Raises:
        NotBuilt: with the end of the log.
    """
    run(build_command(image, reference, settings), reference, log)


def run(command: Sequence[str], what: str, log: Path | None = None) -> None:
    """Run one command of a builder in the repository's root.

    Raises:
        NotBuilt: when it fails, with the end of the log.
    """
    if log is None:
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            output.write(f"$ {' '.join(command)}\n".encode())
            output.flush()
            code = subprocess.run(command, cwd=ROOT, check=False, stdout=output, stderr=output).returncode
    if code:
        said = f"; the end of {log}:\n{tail(log)}" if log else ", see above"
        raise NotBuilt(f"{what}: the builder ended with {code}{said}")


def identity(reference: str, storage: Path) -> str:
    """Number of an image in our own store; empty when there is none of the name."""
    look = ["inspect", "--type", "image", "--format", "{{.FromImageID}}", reference]
    done = subprocess.run([*own_buildah(storage), *look], check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def forget(number: str, storage: Path) -> None:
    """Remove an image that a newer one of its name has replaced, with the layers that nothing else has."""
    subprocess.run([*own_buildah(storage), "rmi", number], check=False, capture_output=True)


def save(reference: str, file: Path, storage: Path, log: Path) -> None:
    """Write an image of our own store to an archive, unless it is there from this very image.

    Raises:
        NotBuilt: with the end of the log.
    """
    buildah, mark = own_buildah(storage), file.with_suffix(".id")
    known = identity(reference, storage)
    if not known:
        raise NotBuilt(f"{reference} is not in {storage}")
    if file.exists() and mark.exists() and mark.read_text() == known:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    for old in (file, mark):
        old.unlink(missing_ok=True)
    # Docker's form is not compressed, and faster to write and to read.
    run([*buildah, "push", "--quiet", reference, f"docker-archive:{file}:{reference}"], reference, log)
    mark.write_text(known)


def export(builder: str, reference: str, file: Path, log: Path) -> None:
    """Write an image of the machine's store to an archive.

    Raises:
        NotBuilt: with the end of the log.
    """
    file.unlink(missing_ok=True)
    if builder == "buildah":
        run(["buildah", "push", "--quiet", reference, f"docker-archive:{file}:{reference}"], reference, log)
    else:
        run([builder, "save", "--output", str(file), reference], reference, log)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def revision() -> str:
    """The commit that is checked out; `unknown` where git cannot say."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def version() -> str:
    """The chart's appVersion, which is the tag that it expects."""
    found = re.search(
        r'^appVersion: "?([^"\n]+)"?$', (ROOT / "charts/paretune/Chart.yaml").read_text(), re.MULTILINE
    )
    if found is None:
        raise ValueError("charts/paretune/Chart.yaml has no appVersion")
    return found[1]


def build_environment(folder: Path, wheels: Path | None) -> Path:
    """A file with the index of packages that this shell names, and the place of the cache."""
    lines = [f"{name}='{os.environ[name]}'" for name in INDEX if os.environ.get(name)]
    if wheels:
        lines.append(f"UV_CACHE_DIR={CACHE}")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "build.env"
    file.touch(mode=0o600)
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def wheel_cache() -> Path | None:
    """uv's cache on this machine."""
    named = os.environ.get("UV_CACHE_DIR")
    folder = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "uv")
    return folder.resolve() if folder.is_dir() else None


def _answers(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _bases(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in given:
        architecture, separator, image = each.partition("=")
        if separator and architecture not in PLATFORMS.values():
            raise NotBuilt(f"--base {each}: expected IMAGE, amd64=IMAGE or arm64=IMAGE")
        found |= {architecture: image} if separator else dict.fromkeys(PLATFORMS.values(), each)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="operator, compress, benchmark; none: all")
    parser.add_argument("--prefix", default="ghcr.io/paretune", help="registry and path (%(default)s)")
    parser.add_argument("--tag", default=version(), help="tag; arm64 adds -arm64 to it (%(default)s)")
    parser.add_argument("--builder", default="", choices=["", *BUILDERS], help="which program builds")
    parser.add_argument(
        "--base", action="append", default=[], metavar="[ARCH=]IMAGE",
        help="base image with Python, for all or for one architecture (python:3.11-slim-bookworm)",
    )  # fmt: skip
    parser.add_argument("--ca", type=Path, help="certificate authorities to trust while building (PEM)")
    parser.add_argument(
        "--build-env", type=Path, help="NAME=value lines for the build alone, such as an index"
    )
    parser.add_argument("--push", action="store_true", help="push each image after it was built")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the command line says; returns the exit code."""
    options = _parser().parse_args(arguments)
    unknown = set(options.names) - {image.name for image in IMAGES}
    try:
        if unknown:
            raise NotBuilt(f"{', '.join(sorted(unknown))}: there are operator, compress and benchmark")
        settings = Settings(
            builder(options.builder),
            PLATFORMS.get(os.uname().machine, os.uname().machine),
            _bases(options.base),
            options.tag,
            revision(),
            options.ca.resolve() if options.ca else None,
            options.build_env.resolve() if options.build_env else None,
        )
        for image in IMAGES:
            if options.names and image.name not in options.names:
                continue
            began, reference = time.monotonic(), image.reference(options.prefix, options.tag)
            build(image, reference, settings)
            if options.push:
                run([settings.builder, "push", reference], reference)
            sys.stdout.write(
                f"{reference}: built in {time.monotonic() - began:.0f} s with {settings.builder}\n"
            )
    except NotBuilt as error:
        sys.stderr.write(f"images: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
