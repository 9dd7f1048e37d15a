"""The distributions fit together: one version, declared imports, one lock without surprises."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
MEMBERS = ["operator", "jobs/contract", "jobs/store", "jobs/codec", "jobs/compress", "jobs/benchmark"]
# Packages that come with another one as part of its interface.
COMES_WITH = {
    "pydantic-core": "pydantic",  # the errors that pydantic's validators raise
    "flatbuffers": "ai-edge-litert",  # what its schema classes are packed with
    "keras": "tensorflow",
    "h5py": "tf-keras",  # its file format
}
LEARNING = re.compile(r"tensorflow|keras|litert|torch|jax|h5py|^mlflow$")


@cache
def _toml(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text())


def _name(requirement: str) -> str:
    return re.split(r"[ <>=!~;\[(]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _declared(member: str) -> set[str]:
    """Distributions that the member may import, extras included."""
    project = _toml(f"{member}/pyproject.toml")["project"]
    extras = project.get("optional-dependencies", {}).values()
    return {_name(requirement) for group in [project["dependencies"], *extras] for requirement in group}


def _imports(folder: Path) -> Iterator[tuple[str, Path]]:
    """Top-level names that the files of a folder import, with the file that does."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.partition(".")[0], path


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def _providers(name: str) -> set[str]:
    """Distributions whose declaration allows `import name`."""
    found = {_name(provider) for provider in _installed().get(name, [name])}
    return found | {COMES_WITH[provider] for provider in found if provider in COMES_WITH}


def _closure(roots: list[tuple[str, tuple[str, ...]]]) -> set[str]:
    """Names of all packages that the lock installs for the roots: (name, extras)."""
    packages: dict[str, list[dict[str, Any]]] = {}
    for package in _toml("uv.lock")["package"]:
        packages.setdefault(package["name"], []).append(package)
    found: set[str] = set()
    waiting, seen = list(roots), set(roots)
    while waiting:
        name, extras = waiting.pop()
        found.add(name)
        for package in packages[name]:
            optional = package.get("optional-dependencies", {})
            dependencies = list(package.get("dependencies", []))
            for extra in extras:
                dependencies += optional.get(extra, [])
            for dependency in dependencies:
                step = dependency["name"], tuple(dependency.get("extra", ()))
                if step not in seen:
                    seen.add(step)
                    waiting.append(step)
    return found


def test_all_distributions_have_one_version() -> None:
    versions = {member: _toml(f"{member}/pyproject.toml")["project"]["version"] for member in MEMBERS}

    assert set(versions.values()) == {_toml("pyproject.toml")["project"]["version"]}, versions


def test_the_changelog_knows_the_version() -> None:
    version = _toml("pyproject.toml")["project"]["version"]
    released = re.findall(
        r"^## \[(.*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )

    assert version in released


@pytest.mark.parametrize("member", MEMBERS)
def test_a_distribution_imports_only_what_it_declares(member: str) -> None:
    (init,) = (ROOT / member / "src").glob("*/__init__.py")
    own = {init.parent.name, *sys.stdlib_module_names}
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}"
        for name, path in _imports(init.parent)
        if name not in own and not _declared(member) & _providers(name)
    }

    assert not undeclared


def test_the_contract_needs_pydantic_alone() -> None:
    assert _declared("jobs/contract") == {"pydantic"}


def test_the_codec_needs_numpy_and_zstandard_alone() -> None:
    assert _closure([("paretune-codec", ())]) == {"paretune-codec", "numpy", "zstandard"}


def test_the_lock_names_no_tensorflow_for_the_operator_alone() -> None:
    heavy = {name for name in _closure([("paretune", ())]) if LEARNING.search(name)}

    assert not heavy


def test_the_lock_names_no_tensorflow_for_the_benchmark() -> None:
    heavy = {name for name in _closure([("paretune-benchmark", ())]) if LEARNING.search(name)}

    assert heavy == {"ai-edge-litert"}


def test_a_plain_sync_installs_what_a_local_study_needs() -> None:
    root = _toml("pyproject.toml")
    groups, default = root["dependency-groups"], root["tool"]["uv"]["default-groups"]

    assert "paretune[local]" in [requirement for group in default for requirement in groups[group]]
    assert {"tensorflow-cpu", "ai-edge-litert", "litert-quantizer", "mlflow"} <= _closure(
        [("paretune", ("local",))]
    )


def test_one_build_of_tensorflow_is_installed_on_each_platform() -> None:
    (compress,) = (p for p in _toml("uv.lock")["package"] if p["name"] == "paretune-compress")
    markers = {d["name"]: d.get("marker", "") for d in compress["dependencies"] if "tensorflow" in d["name"]}
    x86 = "platform_machine == 'x86_64' and sys_platform == 'linux'"

    assert x86 in markers["tensorflow-cpu"]
    assert x86 not in markers["tensorflow"]


def test_the_lock_comes_from_the_public_index_alone() -> None:
    text = (ROOT / "uv.lock").read_text()

    assert set(re.findall(r'registry = "([^"]*)"', text)) == {"https://pypi.org/simple"}
    assert set(re.findall(r'url = "https?://([^/"]*)', text)) == {"files.pythonhosted.org"}
