"""`python -m paretune.handlers --config FILE`: the operator."""

import asyncio
import logging
import sys
from pathlib import Path

import click
import kopf
import kubernetes

from ..cluster.config import ConfigError, OperatorConfig, read_config
from .operator import Operator
from .watching import registry

log = logging.getLogger("paretune")


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/etc/paretune/config.yaml"),
    show_default=True,
    envvar="PARETUNE_CONFIG",
    help="The operator's configuration; the Helm chart writes it.",
)
@click.option("--port", default=8080, show_default=True, help="Port of /healthz, /readyz and /metrics.")
def main(path: Path, port: int) -> None:
    """Run the operator until it is told to end.

    It uses the service account of its pod; outside a cluster, KUBECONFIG.
    """
    try:
        config = read_config(path)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    logging.basicConfig(
        level=config.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("leaderelection").setLevel(logging.WARNING)
    operator = Operator(config, client(), port)
    operator.start()
    try:
        asyncio.run(_watch(operator, config))
    finally:
        operator.stop()


def client() -> kubernetes.client.ApiClient:
    """A client with the pod's service account, or the user's kubeconfig."""
    try:
        kubernetes.config.load_incluster_config()  # type: ignore[no-untyped-call]
    except kubernetes.config.ConfigException:
        try:
            kubernetes.config.load_kube_config()  # type: ignore[no-untyped-call]
        except kubernetes.config.ConfigException as error:
            raise click.ClickException(
                f"no cluster: neither a pod's service account nor KUBECONFIG: {error}"
            ) from error
    return kubernetes.client.ApiClient()


async def _watch(operator: Operator, config: OperatorConfig) -> None:
    await kopf.operator(
        registry=registry(operator),
        clusterwide=not config.namespaces,
        namespaces=config.namespaces,
        standalone=True,
    )


if __name__ == "__main__":
    main()
