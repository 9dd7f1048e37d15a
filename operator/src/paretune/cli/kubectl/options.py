"""kubectl's own options, and what they mean together."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
import yaml

from ...cluster.reading import Cluster

P = ParamSpec("P")
R = TypeVar("R")


def in_cluster(command: Callable[Concatenate[Cluster, P], R]) -> Callable[..., R]:
    """The options that say which cluster and namespace; the command's first argument is the cluster."""

    @click.option("-n", "--namespace", default="", help="Namespace. Default: the context's.")
    @click.option("--context", default="", help="Context of the kubeconfig. Default: its current one.")
    @click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Kubeconfig. Default: $KUBECONFIG, else ~/.kube/config.",
    )
    @functools.wraps(command)
    def connected(
        *arguments: Any, namespace: str, context: str, kubeconfig: Path | None, **options: Any
    ) -> R:
        return command(Cluster.connect(kubeconfig, context, namespace), *arguments, **options)

    return connected


def output_option(*formats: str, default: str = "table") -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`-o`, with the formats that the command knows."""
    return click.option(
        "-o", "--output", "form", type=click.Choice(formats), default=default, show_default=True,
        help="Format of the output.",
    )  # fmt: skip


def as_text(document: Any, form: str) -> str:
    """A document as `-o json` or `-o yaml` shows it."""
    if form == "json":
        return json.dumps(document, indent=4, ensure_ascii=False)
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)).rstrip()
