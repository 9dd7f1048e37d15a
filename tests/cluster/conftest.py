"""A cluster for tests: a control plane of our own, or the one that PARETUNE_TEST_KUBECONFIG points to.

Each worker of pytest-xdist has its own: nodes, definitions and an operator that watches all namespaces are
the whole cluster's, and tests at the same time would be in each other's way. (So run with -n 0 on a cluster
that PARETUNE_TEST_KUBECONFIG points to.)
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from controlplane.build import NOT_RUN, NotBuilt, binaries
from support.api_server import ApiServer, Document
from support.controlplane import ControlPlane, install_definitions, kubeconfig_of_account
from support.waiting import until

KUBECONFIG = "PARETUNE_TEST_KUBECONFIG"


@dataclass(frozen=True)
class Cluster:
    """A cluster and an administrator's access to it.

    Attributes:
        api: client with all rights.
        folder: where kubeconfigs of others go.
        plane: its components, with their logs; None for a cluster that is not ours.
    """

    api: ApiServer
    folder: Path
    plane: ControlPlane | None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.api.kubeconfig

    def account(self, namespace: str, name: str = "default") -> Path:
        """A kubeconfig with the rights of a ServiceAccount; it is made when there is none."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        if self.api.find(f"{path}/{name}") is None:
            self.api.create(
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, namespace
            )
        return kubeconfig_of_account(
            self.api, namespace, name, self.folder / f"{namespace}-{name}.kubeconfig"
        )


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster. Without one, and without Go, tests are skipped; in CI or with Go that is a failure."""
    folder = tmp_path_factory.mktemp("kubeconfigs")
    if os.environ.get(KUBECONFIG):
        with ApiServer(Path(os.environ[KUBECONFIG])) as api:
            yield Cluster(api, folder, None)
        return
    missing = _missing()
    if missing and (shutil.which("go") or os.environ.get("CI") == "true"):
        pytest.fail(f"{NOT_RUN}: {missing}", pytrace=False)
    if missing:
        pytest.skip(f"{NOT_RUN}: {missing}")
    with (
        ControlPlane(tmp_path_factory.mktemp("controlplane")) as plane,
        ApiServer(plane.kubeconfig) as api,
    ):
        yield Cluster(api, folder, plane)


def _missing() -> str:
    """Why there is no control plane to start; empty when there is one."""
    try:
        binaries()
    except NotBuilt as missing:
        return str(missing)
    return ""


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> ApiServer:
    """The cluster's API, with an administrator's rights."""
    return cluster.api


@pytest.fixture(scope="session")
def definitions(cluster: Cluster) -> None:
    """The definitions in crds/ are served."""
    install_definitions(cluster.kubeconfig)


@pytest.fixture
def make_namespace(api: ApiServer) -> Iterator[Callable[..., str]]:
    """A function that makes a namespace with these labels, ready for pods; it goes with the test."""
    made: list[str] = []

    def make(**labels: str) -> str:
        name = f"test-{uuid.uuid4().hex[:8]}"
        document: Document = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }
        api.create(document)
        made.append(name)
        until(lambda: api.find(f"/api/v1/namespaces/{name}/serviceaccounts/default"))
        return name

    yield make
    for name in made:
        api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def namespace(make_namespace: Callable[..., str]) -> str:
    """A fresh namespace."""
    return make_namespace()
