"""`make e2e`: the operator on a real node, from `helm install` to the front in MLflow.

On Linux on x86_64, as root, with Go: a control plane, containerd and the kubelet are started here in
namespaces of their own. With PARETUNE_E2E_KUBECONFIG: on that cluster. What was found is in
build/e2e/results, logs are in build/e2e/logs.
"""

import os
import signal
import sys

import click
from controlplane.build import NotBuilt as NoControlPlane
from support.controlplane import DidNotStart

from . import given, needs, own, sandbox
from .images import NotBuilt, version
from .node import NodeError
from .progress import Progress
from .run import Folders, Options
from .tools import Failed

INTERRUPTED = 130


@click.command(help=__doc__, context_settings={"max_content_width": 110})
@click.option("--without-arm64", is_flag=True, help="Measure on amd64 alone; no emulator is needed.")
@click.option("--trials", default=0, help="Trials of the study, in place of those in study.yaml.")
@click.option("--keep", is_flag=True, help="Leave the cluster as it is until Ctrl-C.")
@click.option("--bare", is_flag=True, help="Only bring up the node, with the images, until Ctrl-C.")
@click.option(
    "--set", "values", multiple=True, metavar="NAME=VALUE", help="A value for the chart, as helm takes it."
)
@click.option(
    "--registry", default="", metavar="REGISTRY/PATH", help="Given cluster: where `make images` pushed."
)
@click.option(
    "--tag", default=version, metavar="TAG", help="Given cluster: tag of the images in the registry."
)
@click.option("--builder", default="", help="Given cluster: buildah, podman or docker.")
@click.option(
    "--base", default="", metavar="IMAGE", help="Given cluster: base image of those that are built."
)
@click.option(
    "--mlflow-image", default="", metavar="IMAGE", help="Given cluster: MLflow, in place of the chart's."
)
def main(without_arm64: bool, **more: object) -> None:
    options = Options(arm64=not without_arm64, **more)  # type: ignore[arg-type]
    folders = Folders()
    within = sandbox.INSIDE in os.environ
    if not within:
        folders.fresh()
        signal.signal(signal.SIGTERM, _interrupted)
    progress = Progress(folders.results / "phases.jsonl")
    try:
        if within:
            code = own.inside(options, folders, progress)
        elif os.environ.get(needs.KUBECONFIG):
            code = given.run(options, folders, progress)
        else:
            code = own.outside(options, folders, progress, sys.argv[1:])
    except KeyboardInterrupt:
        progress.say("interrupted")
        code = INTERRUPTED
    except (Failed, NotBuilt, NoControlPlane, DidNotStart, NodeError, needs.Missing, sandbox.Busy) as error:
        progress.say(f"FAILED: {error}")
        code = 1
    if not within:
        _close(code, folders, progress)
    sys.exit(code)


def _close(code: int, folders: Folders, progress: Progress) -> None:
    table = progress.table()
    (folders.results / "phases.txt").write_text(table + "\n")
    click.echo(f"\n{table}\n" if table else "")
    click.echo(f"results: {folders.results}\nlogs:    {folders.logs}")
    click.echo("e2e: passed" if code == 0 else f"e2e: FAILED ({code})")


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
