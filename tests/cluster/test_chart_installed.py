"""The chart on a real API server: what only an installation shows, above all in which order things appear."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chart import CHART, NAMESPACE, ROOT, Refused, helm
from support.controlplane import ControlPlane

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:paretune"
POOLS = str(CHART / "examples/device-pools.yaml")


@pytest.fixture(scope="module")
def kubeconfig(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A control plane without our definitions; the shared one has them already."""
    if cluster.plane is None:
        pytest.skip("definitions are installed and deleted here: only on a control plane of our own")
    with ControlPlane(tmp_path_factory.mktemp("chart")) as plane:
        yield plane.kubeconfig


@pytest.fixture(autouse=True)
def _environment(kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("HELM_CACHE_HOME", str(tmp_path))


def _release(command: str, *options: str) -> str:
    # There is no node: nothing runs, and nothing is waited for.
    return helm(command, "paretune", str(CHART), "--namespace", NAMESPACE, *options)


def _uninstall() -> str:
    return helm("uninstall", "paretune", "--namespace", NAMESPACE)


def _kubectl(*arguments: str) -> str:
    command = [str(ROOT / ".tools/bin/kubectl"), *arguments]
    return subprocess.run(command, env=os.environ, text=True, capture_output=True, check=True).stdout


def _pools() -> dict[str, dict[str, Any]]:
    found = json.loads(_kubectl("get", "devicepools", "-o", "json"))
    return {item["metadata"]["name"]: item for item in found["items"]}


def _may(user: str, verb: str, resource: str, namespace: str = "default", subresource: str = "") -> bool:
    command = [str(ROOT / ".tools/bin/kubectl"), "auth", "can-i", verb, resource, "--as", user]
    command += ["--namespace", namespace, f"--subresource={subresource}"]
    done = subprocess.run(command, env=os.environ, text=True, capture_output=True, check=False)
    assert done.stdout.strip() in ("yes", "no"), done.stderr
    return done.stdout.strip() == "yes"


def test_one_command_installs_definitions_and_pools_and_upgrades_change_pools_in_place() -> None:
    _release("install", "--create-namespace", "--values", POOLS)
    before = _pools()
    _release("upgrade", "--values", POOLS, "--set", "defaultPool.spec.threads=2")
    after = _pools()

    assert {"default", "raspberry-pi-4", "coral", "tflm"} <= set(before)
    assert before.keys() == after.keys()
    assert all(before[name]["metadata"]["uid"] == after[name]["metadata"]["uid"] for name in before)
    assert (before["default"]["spec"]["threads"], after["default"]["spec"]["threads"]) == (1, 2)
    assert not any("helm.sh/hook" in pool["metadata"]["annotations"] for pool in after.values())

    _release("upgrade", "--reset-values")
    assert set(_pools()) == {"default"}


def test_the_api_server_grants_what_the_roles_say() -> None:
    granted = [
        ("create", "jobs", ""),
        ("patch", "optimizationstudies.paretune.dev", ""),
        ("list", "nodes", ""),
    ]
    refused = [
        ("get", "secrets", ""),
        ("get", "pods", "log"),
        ("create", "pods", "exec"),
        ("get", "configmaps", ""),
        ("create", "leases.coordination.k8s.io", ""),
        ("create", "devicepools.paretune.dev", ""),
    ]

    assert all(_may(ACCOUNT, verb, resource, subresource=sub) for verb, resource, sub in granted)
    assert not any(_may(ACCOUNT, verb, resource, subresource=sub) for verb, resource, sub in refused)
    assert _may(ACCOUNT, "update", "leases.coordination.k8s.io/paretune", NAMESPACE)
    assert not _may(ACCOUNT, "update", "leases.coordination.k8s.io/other", NAMESPACE)


def test_named_namespaces_end_at_their_borders() -> None:
    _kubectl("create", "namespace", "ml")
    _release("upgrade", "--set", "namespaces={ml}")

    assert _may(ACCOUNT, "create", "jobs", "ml")
    assert not _may(ACCOUNT, "create", "jobs", "default")
    assert not _may(ACCOUNT, "list", "pods", NAMESPACE)


def test_definitions_outlive_the_release_and_are_taken_back_by_the_next() -> None:
    told = _uninstall()
    _release("install")

    assert "devicepools.paretune.dev" in told
    assert set(_pools()) == {"default"}


def test_a_second_installation_is_refused() -> None:
    with pytest.raises(Refused, match="invalid ownership metadata"):
        helm("install", "second", str(CHART), "--namespace", "other", "--create-namespace")
