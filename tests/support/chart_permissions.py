"""The chart's permissions in a cluster without its pods, for an operator that runs as a process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api_server import ApiServer, Document, collection_of
from .chart import NAMESPACE, Objects, render
from .controlplane import kubeconfig_of_account

KINDS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
RELEASE = "paretune"

Grant = tuple[str, str, str]
"""API group, resource (with its subresource), verb."""


@dataclass(frozen=True)
class Permitted:
    """Somebody with exactly the operator's rights.

    Attributes:
        kubeconfig: its access.
        account: its user name.
        config: the operator's configuration as the chart writes it.
        grants: what its roles grant.
    """

    kubeconfig: Path
    account: str
    config: Document
    grants: frozenset[Grant]


@contextmanager
def permitted(api: ApiServer, folder: Path, values: Mapping[str, Any] | None = None) -> Iterator[Permitted]:
    """The service account and the roles of a release with these values; they go with the block.

    Raises:
        Refused: of the chart or of the API server.
    """
    rendered = render(values, release=RELEASE)
    created = not api.find(f"/api/v1/namespaces/{NAMESPACE}")
    if created:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    documents = rendered.all(*KINDS)
    for document in documents:
        api.apply(document)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kubeconfig = kubeconfig_of_account(api, NAMESPACE, RELEASE, folder / "operator.kubeconfig")
        account = f"system:serviceaccount:{NAMESPACE}:{RELEASE}"
        yield Permitted(kubeconfig, account, rendered.config(), frozenset(_grants(rendered)))
    finally:
        for document in reversed(documents):
            api.delete(f"{collection_of(document)}/{document['metadata']['name']}")


def _grants(objects: Objects) -> Iterator[Grant]:
    """What is bound to the operator's account, wherever."""
    subject = {"kind": "ServiceAccount", "name": RELEASE, "namespace": NAMESPACE}
    for binding in objects.all("ClusterRoleBinding", "RoleBinding"):
        if subject in binding["subjects"]:
            reference = binding["roleRef"]
            inside = binding["metadata"].get("namespace") if reference["kind"] == "Role" else None
            yield from rules(objects.one(reference["kind"], reference["name"], inside)["rules"])


def rules(documents: list[Document]) -> Iterator[Grant]:
    """Each combination that these rules name."""
    for rule in documents:
        for group in rule.get("apiGroups", ()):
            for resource in rule.get("resources", ()):
                for verb in rule["verbs"]:
                    yield group, resource, verb
