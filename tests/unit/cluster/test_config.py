"""The operator's configuration, as the chart writes it."""

from pathlib import Path

import pytest
from paretune.cluster.config import ConfigError, read_config

LEAST = "images: {compress: reg/c:1, benchmark: reg/b:1, operator: reg/o:1}\n"


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "config.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_images_are_all_that_must_be_said(tmp_path: Path) -> None:
    found = read_config(written(tmp_path, LEAST))
    assert found.images.benchmark == "reg/b:1"
    assert found.namespaces == ()
    assert not found.allow_inline_pools
    assert not found.share_steps
    assert not found.kueue.enabled
    assert found.jobs.service_account_name == "default"
    assert found.compress.resources.limits["memory"] == "4Gi"


def test_fields_are_written_in_camel_case(tmp_path: Path) -> None:
    text = LEAST + (
        "namespaces: [a, b]\n"
        "imagePullSecrets: [pull]\n"
        "allowInlinePools: true\n"
        "tracking: {servers: [{uri: 'http://m:5000', credentialsPath: /c}], default: 'http://m:5000'}\n"
        "kueue: {enabled: true}\n"
        "compress: {activeDeadlineSeconds: 600, resources: {limits: {cpu: 2, nvidia.com/gpu: 1}}}\n"
        "jobs: {env: [{name: HTTPS_PROXY, value: 'http://p'}], caBundleConfigMap: ca}\n"
        "reconcile: {workers: 8, statusSeconds: 2.5}\n"
        "logLevel: DEBUG\n"
    )
    found = read_config(written(tmp_path, text))
    assert found.namespaces == ("a", "b")
    assert found.tracking.servers[0].credentials_path == "/c"
    assert found.compress.resources.limits == {"cpu": 2, "nvidia.com/gpu": 1}
    assert found.compress.active_deadline_seconds == 600
    assert found.jobs.env[0]["name"] == "HTTPS_PROXY"
    assert found.reconcile.status_seconds == 2.5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["images", "Field required"]),
        ("[1]\n", ["all of it"]),
        ("a: [\n", ["no YAML"]),
        (b"\xff\xfe\x00", ["no YAML"]),
        (LEAST + "logLevel: LOUD\n", ["logLevel", "'DEBUG'"]),
        (LEAST + "reconcile: {workers: 0}\n", ["reconcile.workers", "greater than or equal to 1"]),
        (LEAST + "compress: {activeDeadlineSeconds: 5}\n", ["compress.activeDeadlineSeconds"]),
        (LEAST + "imagePulPolicy: Always\n", ["imagePulPolicy", "not permitted"]),
        (LEAST + "namespaces: team\n", ["namespaces"]),
    ],
)
def test_a_fault_is_told_with_file_and_field(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_config(file)
    for word in [str(file), *words]:
        assert word in str(caught.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(written(tmp_path, LEAST + "logLevel: LOUD\nreconcile: {workers: 0}\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "config.yaml")
