"""A run on a node of our own: images and emulator outside, everything else inside the sandbox."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import base, images, needs, node, sandbox, scenario
from .progress import Progress
from .run import Folders, Options, carry_out, digits, wait
from .tools import Failed, Tools

PREFIX, TAG = "localhost/paretune", "e2e"
MLFLOW = images.Image("mlflow", "tests/e2e/mlflow.Dockerfile")
LABELS = {scenario.EMULATES: "arm64"}


@dataclass(frozen=True)
class Archive:
    """An image as a file, for containerd.

    Attributes:
        name: of the image, as scenario.Setting has it.
        reference: the image's.
        file: the archive.
    """

    name: str
    reference: str
    file: Path


def wanted(options: Options) -> tuple[images.Image, ...]:
    """Images that the node needs, beside the one that waits."""
    own = [image for image in images.IMAGES if options.arm64 or image.architecture == "amd64"]
    return (*own, MLFLOW)


def archives(options: Options, folders: Folders) -> tuple[Archive, ...]:
    """Archives of all images that the node needs."""
    found = [(f"{image.name}{image.suffix}", image.reference(PREFIX, TAG)) for image in wanted(options)] + [
        ("pause", node.PAUSE)
    ]
    return tuple(Archive(name, reference, folders.archives / f"{name}.tar") for name, reference in found)


def outside(options: Options, folders: Folders, progress: Progress, arguments: Sequence[str]) -> int:
    """Make what the node needs, run the rest inside, and look afterwards whether anything was left.

    Returns:
        The exit code of the process inside, or 1 when something was left behind.
    """
    machine = needs.look()
    if needs.faults(machine):
        raise Failed("\n".join(needs.faults(machine)))
    with contextlib.ExitStack() as stack:
        stack.enter_context(sandbox.alone())
        if machine.packages:
            with progress.phase(f"apt-get install {' '.join(machine.packages)}"):
                needs.install(machine.packages, folders.logs / "apt.log")
        if options.arm64:
            with progress.phase("emulator for arm64"):
                emulator = needs.emulator(folders.out / "qemu", folders.logs / "apt.log")
        make_images(options, folders, progress)
        digits(folders, progress)
        if options.arm64:
            stack.enter_context(sandbox.emulated_arm64(emulator))
        code = sandbox.enter([sys.executable, "-m", "e2e", *arguments], folders.work, folders.logs)
    left = sandbox.leftovers(folders.work)
    for each in left:
        progress.say(f"left behind: {each}")
    if not left:
        progress.say("node, namespaces, mounts, cgroups and kernel settings: as before")
    return code or int(bool(left))


def make_images(options: Options, folders: Folders, progress: Progress) -> None:
    """Build all images in a store of our own, and write each to an archive unless it is there already.

    Raises:
        NotBuilt: with the end of the log.
    """
    store, log = folders.storage, folders.logs / "images.log"
    store.mkdir(parents=True, exist_ok=True)
    wheels = images.wheel_cache()
    settings = images.Settings(
        builder="buildah",
        bases={architecture: base.python(architecture) for architecture in ("amd64", "arm64")},
        version=images.version(),
        revision=images.revision(),
        authorities=Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")).resolve(),
        environment=images.build_environment(folders.out, wheels),
        wheels=wheels,
        storage=store,
    )
    for architecture in ("amd64", "arm64") if options.arm64 else ("amd64",):
        with progress.phase(f"base image for {architecture}"):
            base.make_python(architecture, folders.out / "base", store, log)
    base.make_pause(node.PAUSE, store, log)
    for image in wanted(options):
        name = f"{image.name}{image.suffix}"
        with progress.phase(f"image {name}"):
            reference = image.reference(PREFIX, TAG)
            before = images.identity(reference, store)
            images.build(image, reference, settings, folders.logs / f"image-{name}.log")
            if before and before != images.identity(reference, store):
                images.forget(before, store)
    with progress.phase("archives of the images"):
        for archive in archives(options, folders):
            images.save(archive.reference, archive.file, store, log)


def inside(options: Options, folders: Folders, progress: Progress) -> int:
    """The process in the namespaces: bring the node up, and carry the scenario out on it."""
    signal.signal(signal.SIGTERM, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)
    sandbox.settle(folders.work)
    with _node(options, folders, progress) as (tools, setting):
        if options.bare:
            wait(tools, folders, progress)
            return 0
        return carry_out(tools, setting, options, folders, progress)


@contextlib.contextmanager
def _node(options: Options, folders: Folders, progress: Progress) -> Iterator[tuple[Tools, scenario.Setting]]:
    claim = folders.work / "claim"
    claim.mkdir(mode=0o777)
    claim.chmod(0o777)
    found = archives(options, folders)
    node.network()
    with contextlib.ExitStack() as stack:
        with progress.phase("control plane"):
            plane = stack.enter_context(node.control_plane(folders.work / "plane"))
        own = node.Node(plane, folders.work / "node", LABELS if options.arm64 else {})
        with progress.phase("containerd, with the images"):
            own.start_containerd()
            for archive in found:
                own.load(archive.file)
        with progress.phase("node Ready"):
            own.start_kubelet()
        setting = scenario.Setting(
            {archive.name: archive.reference for archive in found if archive.name != "pause"},
            volume=claim,
            values=options.values,
            trials=options.trials,
        )
        yield Tools(plane.kubeconfig, folders.logs / "kubectl.log"), setting


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt
