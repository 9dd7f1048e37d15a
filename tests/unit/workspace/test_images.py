"""How the images are built: the builders' command lines."""

import re
import tomllib
from pathlib import Path

import pytest
from e2e import images
from e2e.images import BENCHMARK_ARM64, IMAGES, OPERATOR, Settings, build_command

ROOT = Path(__file__).parents[3]


def _arguments(command: list[str]) -> dict[str, str]:
    """The build arguments of a command."""
    found = [command[i + 1] for i, word in enumerate(command) if word == "--build-arg"]
    return dict(each.split("=", 1) for each in found)


def _fake(folder: Path, name: str, code: int = 0) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\nexit {code}\n")
    program.chmod(0o755)


def test_every_dockerfile_is_there_and_has_its_image() -> None:
    there = {
        str(file.relative_to(ROOT))
        for file in [*ROOT.glob("operator/Dockerfile"), *ROOT.glob("jobs/*/Dockerfile")]
    }
    assert {image.dockerfile for image in IMAGES} == there


@pytest.mark.parametrize("dockerfile", sorted({image.dockerfile for image in IMAGES}))
def test_an_image_knows_all_members_of_the_workspace(dockerfile: str) -> None:
    """The lock is read against the whole workspace, whatever part of it is installed."""
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    copied = re.findall(r"^COPY (\S+)/pyproject\.toml ", (ROOT / dockerfile).read_text(), re.MULTILINE)
    assert set(copied) == set(workspace["members"])


def test_the_arm64_image_has_a_tag_of_its_own() -> None:
    references = [image.reference("ghcr.io/paretune", "0.1.0") for image in IMAGES]
    assert "ghcr.io/paretune/benchmark:0.1.0-arm64" in references
    assert len(set(references)) == len(references)


def test_the_default_names_are_those_that_the_chart_installs() -> None:
    values = (ROOT / "charts/paretune/values.yaml").read_text()
    for image in IMAGES:
        assert re.search(rf"registry: ghcr.io\n.*\n    repository: paretune/{image.name}\n", values)
    assert f'appVersion: "{images.version()}"' in (ROOT / "charts/paretune/Chart.yaml").read_text() or (
        f"appVersion: {images.version()}" in (ROOT / "charts/paretune/Chart.yaml").read_text()
    )


@pytest.mark.parametrize("builder", images.BUILDERS)
def test_without_a_base_the_dockerfile_chooses_it(builder: str) -> None:
    command = build_command(OPERATOR, "x:1", Settings(builder))
    assert "PYTHON_IMAGE" not in _arguments(command)
    assert command[command.index("--platform") :][:2] == ["--platform", "linux/amd64"]
    assert command[-5:] == ["--tag", "x:1", "--file", "operator/Dockerfile", "."]


@pytest.mark.parametrize("builder", images.BUILDERS)
def test_an_image_for_arm64_is_made_where_this_machine_can_run_its_steps(builder: str) -> None:
    bases = {"amd64": "registry.example.com/base:1", "arm64": "registry.example.com/base:1"}
    command = build_command(BENCHMARK_ARM64, "x:1", Settings(builder, "amd64", bases))
    assert command[command.index("--platform") :][:2] == ["--platform", "linux/arm64"]
    arguments = _arguments(command)
    assert arguments["BUILD_IMAGE"] == "registry.example.com/base:1"
    if builder != "docker":  # which sets these itself
        assert (arguments["TARGETARCH"], arguments["BUILDPLATFORM"]) == ("arm64", "linux/amd64")


def test_a_local_base_is_found_by_its_name_and_not_by_its_platform() -> None:
    bases = {"amd64": "localhost/base:amd64", "arm64": "localhost/base:arm64"}
    command = build_command(BENCHMARK_ARM64, "x:1", Settings("buildah", "amd64", bases))
    assert "--platform" not in command
    assert _arguments(command) | {"PYTHON_IMAGE": "localhost/base:arm64"} == _arguments(command)
    assert _arguments(command)["BUILD_IMAGE"] == "localhost/base:amd64"


def test_what_only_the_build_may_know_is_a_secret() -> None:
    settings = Settings("podman", authorities=Path("/ca.pem"), environment=Path("/build.env"))
    command = build_command(OPERATOR, "x:1", settings)
    assert "id=ca.crt,src=/ca.pem" in command
    assert "id=build.env,src=/build.env" in command
    assert not any("/ca.pem" in value for value in _arguments(command).values())


def test_docker_counts_only_with_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(images.NotBuilt, match=r"apt-get install buildah"):
        images.builder()
    _fake(tmp_path, "docker", code=1)
    with pytest.raises(images.NotBuilt, match="running daemon"):
        images.builder()
    _fake(tmp_path, "docker")
    assert images.builder() == "docker"
    _fake(tmp_path, "podman")
    assert images.builder() == "podman"
    assert images.builder("docker") == "docker"
    with pytest.raises(images.NotBuilt, match="buildah is not on PATH"):
        images.builder("buildah")


def test_a_failed_build_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    with pytest.raises(images.NotBuilt, match=r"no such instruction"):
        images.run(["sh", "-c", "echo no such instruction; exit 3"], "x:1", log)
    images.run(["true"], "x:1", log)


def test_a_name_that_is_no_image_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert images.main(["operater"]) == 1
    assert "there are operator, compress and benchmark" in capsys.readouterr().err
