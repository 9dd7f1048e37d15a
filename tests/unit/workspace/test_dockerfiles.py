"""What the images promise, as far as their Dockerfiles and the lock can tell without a build."""

import itertools
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
DISTRIBUTIONS = {
    "operator/Dockerfile": "paretune",
    "jobs/compress/Dockerfile": "paretune-compress",
    "jobs/benchmark/Dockerfile": "paretune-benchmark",
}
LEARNING = re.compile(r"^(tensorflow|tensorflow-cpu|keras|tf-keras|torch|jax|mlflow)$")


def _instructions(path: str) -> list[str]:
    """The instructions of a Dockerfile, one a string, without comments."""
    lines = [line for line in (ROOT / path).read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [line for line in joined.splitlines() if line.strip()]


def _locked() -> dict[str, list[dict[str, Any]]]:
    """Packages of the lock by name; some are there in one version for each range of Pythons."""
    found: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        found.setdefault(package["name"], []).append(package)
    return found


def _closure(distribution: str) -> set[str]:
    """Everything that uv installs for a distribution without extras, whatever the platform."""
    locked, found, waiting = _locked(), set[str](), [distribution]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting += [need["name"] for package in locked[name] for need in package.get("dependencies", ())]
    return found


@pytest.mark.parametrize("path", DISTRIBUTIONS)
def test_the_user_is_a_number_so_that_kubernetes_sees_it_is_not_root(path: str) -> None:
    users = [line for line in _instructions(path) if line.startswith("USER ")]
    assert users == ["USER 65532:65532"]


@pytest.mark.parametrize("path", DISTRIBUTIONS)
def test_the_base_image_is_an_argument_with_a_version(path: str) -> None:
    first, *others = _instructions(path)
    assert first == "ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm"
    bases = [line.split() for line in others if line.startswith("FROM ")]
    assert [words[-3] if "AS" in words else words[-1] for words in bases] == [
        "${BUILD_IMAGE}",
        "${PYTHON_IMAGE}",
    ]
    assert ":latest" not in "\n".join([first, *others])


@pytest.mark.parametrize("path", DISTRIBUTIONS)
def test_only_named_files_are_copied_and_all_are_there(path: str) -> None:
    copies = [line.split()[1:-1] for line in _instructions(path) if line.startswith("COPY ")]
    sources = [word for words in copies if not words[0].startswith("--from=") for word in words]
    assert sources
    assert not {".", "./", "/"} & set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.parametrize(("path", "distribution"), DISTRIBUTIONS.items())
def test_the_environment_comes_from_the_lock(path: str, distribution: str) -> None:
    runs = [line for line in _instructions(path) if line.startswith("RUN ")]
    assert [re.search(r"environment\.sh (\w+) (\S+)", run) is not None for run in runs] == [True, True]
    assert all(f" {distribution} " in run for run in runs)
    script = (ROOT / "jobs/environment.sh").read_text()
    assert "uv sync --frozen" in script


def test_the_variant_for_gpus_never_has_the_tensorflow_of_the_lock_put_over_its_own(tmp_path: Path) -> None:
    """Both parts of the script synchronize with the lock, whose TensorFlow is the one for CPUs."""
    script = (ROOT / "jobs/environment.sh").read_text()
    asked = tmp_path / "asked"
    for accelerator, part in itertools.product(("cpu", "cuda"), ("dependencies", "own")):
        ready = script.partition("sync() {")[0].replace("[ ! -x /opt/uv/bin/uv ]", "false")
        body = script.partition("sync() {")[2].partition("\n}\n")[0].replace("/opt/uv/bin/uv", "echo")
        program = f"{ready}sync() {{{body}\n}}\nsync >{asked}"
        subprocess.run(
            ["sh", "-c", program, "environment.sh", part, "paretune-compress", "amd64"],
            env={**os.environ, "ACCELERATOR": accelerator},
            check=True,
        )
        assert ("--no-install-package tensorflow-cpu" in asked.read_text()) == (accelerator == "cuda")


def test_the_tensorflow_for_gpus_is_installed_without_the_settings_that_leave_it_out() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    left_out = [each for each in settings["override-dependencies"] if each.startswith("tensorflow==")]
    assert left_out, "the reason is gone, and with it --no-config may go"
    assert re.search(r"^tensorflow==", (ROOT / "jobs/compress/gpu.txt").read_text(), re.MULTILINE)
    assert "uv pip install --no-config" in (ROOT / "jobs/environment.sh").read_text()


def test_the_images_are_made_by_the_uv_of_the_makefile() -> None:
    makefile = re.search(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert makefile
    for path in DISTRIBUTIONS:
        assert f"ARG UV_VERSION={makefile[1]}" in _instructions(path)


@pytest.mark.parametrize("distribution", ["paretune", "paretune-benchmark"])
def test_operator_and_benchmark_install_no_learning_library(distribution: str) -> None:
    assert sorted(name for name in _closure(distribution) if LEARNING.match(name)) == []


def test_the_closure_would_see_tensorflow() -> None:
    assert "tensorflow" in _closure("paretune-compress") or "tensorflow-cpu" in _closure("paretune-compress")


def test_the_variant_for_gpus_has_the_versions_of_the_lock() -> None:
    text = (ROOT / "jobs/compress/gpu.txt").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))
    assert "tensorflow" in pinned
    assert any(name.startswith("nvidia-cudnn") for name in pinned)
    locked = _locked()
    differing = {
        name: version
        for name, version in pinned.items()
        if name in locked and version not in {package["version"] for package in locked[name]}
    }
    assert differing == {}
