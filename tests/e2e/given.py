"""A run on a cluster that is there already: kind, k3d, or any other whose nodes can pull images."""

import os
import shutil
import subprocess
from pathlib import Path

from . import images, needs, scenario
from .progress import Progress
from .run import Folders, Options, carry_out, digits
from .tools import Failed, Tools

PREFIX, TAG = "localhost/paretune", "e2e"


def run(options: Options, folders: Folders, progress: Progress) -> int:
    """Bring the images to the cluster, and carry the scenario out on it; returns the exit code.

    Raises:
        Failed: when the cluster has Paretune already, or there is no way to bring images to it.
        NotBuilt: with the end of the log.
    """
    kubeconfig = Path(os.environ[needs.KUBECONFIG]).resolve()
    tools = Tools(kubeconfig, folders.logs / "kubectl.log")
    there = scenario.is_installed(tools)
    if there:
        raise Failed(
            f"the cluster has Paretune already ({', '.join(there)}), and this run would delete all: use "
            "another cluster"
        )
    arm64_nodes = any(
        node["metadata"].get("labels", {}).get("kubernetes.io/arch") == "arm64"
        for node in tools.items("nodes")
    )
    if options.arm64 and not arm64_nodes:
        # A node's runtime takes no image for another architecture, whatever its kernel can emulate.
        progress.say("no node of the cluster is arm64: candidates are measured on amd64 alone")
    wanted = [
        image for image in images.IMAGES if (options.arm64 and arm64_nodes) or image.architecture == "amd64"
    ]
    if options.registry:
        prefix, tag = options.registry, options.tag
    else:
        prefix, tag = PREFIX, TAG
        _load(tools, wanted, options, folders, progress)
    references = {f"{image.name}{image.suffix}": image.reference(prefix, tag) for image in wanted}
    if options.mlflow_image:
        references["mlflow"] = options.mlflow_image
    digits(folders, progress)
    setting = scenario.Setting(references, arm64_nodes, None, options.values, options.trials)
    try:
        return carry_out(tools, setting, options, folders, progress)
    finally:
        with progress.phase("cluster as before"):
            scenario.sweep(tools)


def loader(context: str) -> list[str]:
    """The command that brings an archive to a cluster's nodes; `FILE` stands for the archive.

    Raises:
        Failed: when the context is neither kind's nor k3d's.
    """
    kind, _, name = context.partition("-")
    if kind == "kind" and name:
        return ["kind", "load", "image-archive", "FILE", "--name", name]
    if kind == "k3d" and name:
        return ["k3d", "image", "import", "FILE", "--cluster", name]
    raise Failed(
        f"context {context} is neither kind's nor k3d's, so images cannot be loaded: push them by "
        "`make images IMAGES_ARGS='--prefix REGISTRY/PATH --tag TAG --push'`, and give E2E_ARGS='--registry "
        "REGISTRY/PATH --tag TAG'"
    )


def _load(
    tools: Tools, wanted: list[images.Image], options: Options, folders: Folders, progress: Progress
) -> None:
    command = loader(tools.kubectl("config", "current-context").strip())
    if shutil.which(command[0]) is None:
        raise Failed(f"{command[0]} is not on PATH, and the kubeconfig's context is its own")
    settings = images.Settings(
        images.builder(options.builder),
        images.PLATFORMS.get(os.uname().machine, "amd64"),
        bases=dict.fromkeys(images.PLATFORMS.values(), options.base) if options.base else {},
        version=images.version(),
        revision=images.revision(),
    )
    folders.archives.mkdir(parents=True, exist_ok=True)
    for image in wanted:
        name, reference = f"{image.name}{image.suffix}", image.reference(PREFIX, TAG)
        with progress.phase(f"image {name}"):
            images.build(image, reference, settings, folders.logs / f"image-{name}.log")
            file = folders.archives / f"{name}.tar"
            images.export(settings.builder, reference, file, folders.logs / "images.log")
            done = subprocess.run(
                [str(file) if word == "FILE" else word for word in command],
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise Failed(f"{' '.join(command)}: {done.stderr.strip()}")
