"""The chart, rendered by the real helm."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/paretune"
HELM = ROOT / ".tools/bin/helm"
NAMESPACE = "paretune-system"

Json = dict[str, Any]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The definitions are long, and LibYAML ten times as fast."""

EVERYTHING: Json = {
    "mlflow": {"enabled": True},
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "grafanaDashboard": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "rbac": {"devicePoolReaders": ["system:authenticated"]},
}
"""All that can be switched on."""


class Refused(Exception):
    """Helm refused; the text is what it said."""


def helm(*arguments: str, stdin: str = "") -> str:
    """What helm prints.

    Raises:
        Refused: when it exits with an error.
        FileNotFoundError: when there is no helm; the message has the command that brings it.
    """
    if not os.access(HELM, os.X_OK):
        raise FileNotFoundError(f"no helm at {HELM}: run `make .tools/.kube-tools`")
    done = subprocess.run([str(HELM), *arguments], input=stdin, text=True, capture_output=True, check=False)
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


def render(
    values: Mapping[str, Any] | None = None, *, release: str = "paretune", options: Sequence[str] = ()
) -> "Objects":
    """The objects of a release with these values. They are shared: nobody may change them.

    Raises:
        Refused: when the values are.
    """
    return _rendered(json.dumps(values or {}), release, tuple(options))


@cache
def _rendered(values: str, release: str, options: tuple[str, ...]) -> "Objects":
    command = ["template", release, str(CHART), "--namespace", NAMESPACE, "--values", "-", *options]
    return Objects(helm(*command, stdin=values))


class Objects(list[Json]):
    """Rendered objects."""

    def __init__(self, text: str) -> None:
        super().__init__(document for document in yaml.load_all(text, Loader=_LOADER) if document)

    def all(self, *kinds: str) -> list[Json]:
        """Those of some kinds."""
        return [document for document in self if document["kind"] in kinds]

    def one(self, kind: str, name: str, namespace: str | None = None) -> Json:
        """The only one of this kind and name."""
        (found,) = (
            document
            for document in self.all(kind)
            if document["metadata"]["name"] == name
            and namespace in (None, document["metadata"].get("namespace"))
        )
        return found

    def has(self, kind: str, name: str) -> bool:
        """Whether there is one of this kind and name."""
        return any(document["metadata"]["name"] == name for document in self.all(kind))

    def pods(self) -> dict[str, Json]:
        """Specs of all pods, by kind and name of what makes them."""
        specs = {}
        for document in self.all("Deployment", "Pod", "Job", "StatefulSet", "DaemonSet", "CronJob"):
            spec = document["spec"]
            specs[f"{document['kind']}/{document['metadata']['name']}"] = (
                spec["template"]["spec"] if "template" in spec else spec
            )
        return specs

    def container(self, pod: str, name: str) -> Json:
        """A container of a pod."""
        spec = self.pods()[pod]
        (found,) = (c for c in [*spec.get("initContainers", []), *spec["containers"]] if c["name"] == name)
        return found

    def config(self) -> Json:
        """The operator's configuration."""
        (text,) = (d["data"]["config.yaml"] for d in self.all("ConfigMap") if "config.yaml" in d["data"])
        plain: Json = yaml.safe_load(text)
        return plain

    def images(self) -> set[str]:
        """Every image of the release, those that the operator uses in Jobs included."""
        pods = {
            container["image"]
            for spec in self.pods().values()
            for container in [*spec.get("initContainers", []), *spec["containers"]]
        }
        return pods | set(self.config()["images"].values())


def environment(container: Json) -> dict[str, str | None]:
    """A container's environment; None for what is not a plain value."""
    names = [entry["name"] for entry in container["env"]]
    assert len(names) == len(set(names)), f"a variable is there twice: {names}"
    return {entry["name"]: entry.get("value") for entry in container["env"]}
