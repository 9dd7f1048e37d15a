"""The import linter holds the walls: the code stands within them, and every contract catches its breach."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = [ROOT / "operator/src", *sorted(ROOT.glob("jobs/*/src"))]

BREACHES = {
    "order": ("paretune/search", "import paretune.tracking"),
    "operator-and-jobs": ("paretune/local", "import paretune_benchmark"),
    "jobs-and-operator": ("paretune_store", "import paretune.api"),
    "jobs-among-themselves": ("paretune_benchmark", "import paretune_compress"),
    "plan-is-pure": ("paretune/plan", "import subprocess"),
    "plan-has-no-clock": ("paretune/plan", "import time"),
    "tracking-sees-records": ("paretune/tracking", "import paretune.local"),
    "mlflow": ("paretune/cli", "import mlflow"),
    "kubernetes": ("paretune/local", "import kubernetes"),
    "operator-without-tensorflow": ("paretune/search", "import tensorflow"),
    "benchmark-is-litert-alone": ("paretune_benchmark", "import tensorflow"),
    "codec-stands-alone": ("paretune_codec", "import flatbuffers"),
    "tfmot-inside-its-trainer": ("paretune_compress/steps", "import tensorflow_model_optimization"),
}


def _contracts() -> dict[str, str]:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {contract["id"]: contract["name"] for contract in config["tool"]["importlinter"]["contracts"]}


def _lint(sources: list[Path], folder: Path, *arguments: str) -> str:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sources)), "COLUMNS": "200"}
    shutil.copy(ROOT / "pyproject.toml", folder)
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    return done.stdout + done.stderr


def test_the_code_stands_within_the_walls(tmp_path: Path) -> None:
    report = _lint(SOURCES, tmp_path)

    assert "0 broken" in report, report


def test_every_wall_has_a_breach_to_be_tried() -> None:
    assert set(BREACHES) == set(_contracts())


@pytest.fixture(scope="module")
def report_on_breaches(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the linter says of a copy of the code in which every wall is broken once."""
    folder = tmp_path_factory.mktemp("breached")
    sources = [folder / source.relative_to(ROOT) for source in SOURCES]
    for source, copy in zip(SOURCES, sources, strict=True):
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for number, (package, statement) in enumerate(BREACHES.values()):
        target = next(copy / package for copy in sources if (copy / package).is_dir())
        (target / f"breach_{number}.py").write_text(statement + "\n")
    return _lint(sources, folder)


@pytest.mark.parametrize("contract", sorted(BREACHES))
def test_a_breach_is_caught(report_on_breaches: str, contract: str) -> None:
    assert f"{_contracts()[contract]} BROKEN" in " ".join(report_on_breaches.split()), report_on_breaches


def test_a_new_package_must_be_given_its_place(tmp_path: Path) -> None:
    copy = tmp_path / "src"
    shutil.copytree(SOURCES[0], copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "paretune/surprise").mkdir()
    (copy / "paretune/surprise/__init__.py").write_text("")

    report = _lint([copy, *SOURCES[1:]], tmp_path, "--contract", "order")

    assert "1 broken" in report, report
    assert "surprise" in report, report
