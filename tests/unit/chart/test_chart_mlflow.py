"""The bundled MLflow: that its host check knows its names, by MLflow's own check, and that its data stays."""

from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.cli import cli
from mlflow.server.security_utils import is_allowed_host_header, should_block_cors_request
from support.chart import NAMESPACE, render

DEPLOYMENT = "Deployment/paretune-mlflow"


def _mlflow(**values: Any) -> dict[str, Any]:
    return {"mlflow": {"enabled": True, **values}}


def _arguments(values: dict[str, Any]) -> dict[str, str]:
    arguments = render(values).container(DEPLOYMENT, "mlflow")["args"]
    return {name: value for name, _, value in (argument.partition("=") for argument in arguments)}


@pytest.mark.parametrize("port", [5000, 80, 8443])
@pytest.mark.parametrize(
    "host",
    [
        "paretune-mlflow",
        f"paretune-mlflow.{NAMESPACE}",
        f"paretune-mlflow.{NAMESPACE}.svc",
        f"paretune-mlflow.{NAMESPACE}.svc.cluster.local",
        "localhost",
        "127.0.0.1",
    ],
)
def test_its_names_in_the_cluster_pass_the_host_check_with_and_without_port(host: str, port: int) -> None:
    allowed = _arguments(_mlflow(port=port))["--allowed-hosts"].split(",")

    assert is_allowed_host_header(allowed, host)
    assert is_allowed_host_header(allowed, f"{host}:{port}")


def test_a_port_forward_to_any_port_passes_the_host_check() -> None:
    allowed = _arguments(_mlflow())["--allowed-hosts"].split(",")

    assert is_allowed_host_header(allowed, "localhost:18500")


@pytest.mark.parametrize(
    "host", ["evil.example.com", "paretune-mlflow.evil.com", "10.0.0.7:5000", "mlflow:5000"]
)
def test_other_names_are_refused(host: str) -> None:
    assert not is_allowed_host_header(_arguments(_mlflow())["--allowed-hosts"].split(","), host)


def test_an_ingress_host_passes_both_checks() -> None:
    arguments = _arguments(_mlflow(allowedHosts=["mlflow.example.com"]))
    origins = arguments["--cors-allowed-origins"].split(",")

    assert is_allowed_host_header(arguments["--allowed-hosts"].split(","), "mlflow.example.com")
    assert not should_block_cors_request("https://mlflow.example.com", "POST", origins)
    assert should_block_cors_request("https://evil.example.com", "POST", origins)


def test_another_domain_of_the_cluster_is_known() -> None:
    values = {**_mlflow(), "clusterDomain": "corp.internal"}

    assert is_allowed_host_header(
        _arguments(values)["--allowed-hosts"].split(","),
        f"paretune-mlflow.{NAMESPACE}.svc.corp.internal:5000",
    )


def test_every_argument_is_one_that_mlflow_knows() -> None:
    told = CliRunner().invoke(cli, ["server", "--help"]).output
    arguments = _arguments(_mlflow(allowedHosts=["mlflow.example.com"]))

    assert len(arguments) == 8
    assert all(name in told for name in arguments)
    init = render(_mlflow()).container(DEPLOYMENT, "migrate")
    assert init["command"][:3] == ["mlflow", "db", "upgrade"]
    assert CliRunner().invoke(cli, ["db", "upgrade", "--help"]).exit_code == 0


def test_database_and_artifacts_are_on_the_volume_that_outlives_the_release() -> None:
    objects = render(_mlflow())
    arguments = _arguments(_mlflow())
    container = objects.container(DEPLOYMENT, "mlflow")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    claim = objects.one("PersistentVolumeClaim", "paretune-mlflow")

    assert arguments["--backend-store-uri"] == f"sqlite:///{mounts['data']}/mlflow.db"
    assert arguments["--artifacts-destination"].startswith(mounts["data"])
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (data,) = (v for v in objects.pods()[DEPLOYMENT]["volumes"] if v["name"] == "data")
    assert data["persistentVolumeClaim"]["claimName"] == "paretune-mlflow"
    assert objects.one("Deployment", "paretune-mlflow")["spec"]["strategy"] == {"type": "Recreate"}


def test_the_database_that_is_upgraded_is_the_one_that_is_served() -> None:
    values = _mlflow(backendStoreUri="postgresql://db/mlflow?password=$(PASSWORD)")

    upgraded = render(values).container(DEPLOYMENT, "migrate")["command"][3]
    assert upgraded == _arguments(values)["--backend-store-uri"]


def test_a_volume_can_be_given_or_left_out() -> None:
    given = render(_mlflow(persistence={"existingClaim": "mine"}))
    without = render(_mlflow(persistence={"enabled": False}))

    assert not given.all("PersistentVolumeClaim")
    assert not without.all("PersistentVolumeClaim")
    volumes = {v["name"]: v for v in given.pods()[DEPLOYMENT]["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == "mine"
    assert "emptyDir" in {v["name"]: v for v in without.pods()[DEPLOYMENT]["volumes"]}["data"]


def test_nothing_of_mlflow_is_there_unless_it_is_wanted() -> None:
    assert not [d for d in render() if "mlflow" in d["metadata"]["name"]]


def test_its_probes_are_on_the_page_that_is_exempt_from_the_host_check() -> None:
    container = render(_mlflow()).container(DEPLOYMENT, "mlflow")

    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == "/health"
