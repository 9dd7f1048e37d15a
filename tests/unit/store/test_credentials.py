"""Credentials as a pod sees them."""

from pathlib import Path

import pytest
from paretune_contract.task import Store, StoreKind
from paretune_store.credentials import credentials_of, hidden, read_credentials
from paretune_store.errors import Refused
from paretune_store.stores import open_store


def mounted(folder: Path, **values: bytes) -> Path:
    """A Secret as kubelet mounts it."""
    data = folder / "..2026_11_25"
    data.mkdir(parents=True)
    (folder / "..data").symlink_to(data.name)
    for name, value in values.items():
        (data / name).write_bytes(value)
        (folder / name).symlink_to(f"..data/{name}")
    return folder


def test_a_secret_is_read_with_its_keys_and_without_kubernetes_own_folders(tmp_path: Path) -> None:
    folder = mounted(tmp_path / "s", AWS_REGION=b"eu\n", KEY=b"two\nlines\n\n", EMPTY=b"", WINDOWS=b"x\r\n")
    assert read_credentials(folder) == {
        "AWS_REGION": "eu",
        "KEY": "two\nlines\n",
        "EMPTY": "",
        "WINDOWS": "x",
    }


def test_a_secret_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file or directory; mount the Secret there"):
        read_credentials(tmp_path / "none")
    with pytest.raises(Refused, match="no text in UTF-8"):
        read_credentials(mounted(tmp_path / "binary", KEY=b"\xff\xfe"))
    with pytest.raises(Refused, match="no value of a Secret"):
        read_credentials(mounted(tmp_path / "large", KEY=b"1" * (1 << 20 | 1)))


def test_no_name_means_the_environment_and_a_name_stays_below_the_secrets(tmp_path: Path) -> None:
    mounted(tmp_path / "s", KEY=b"1")
    assert credentials_of("", tmp_path) is None
    assert credentials_of("s", tmp_path) == {"KEY": "1"}
    for name in ("../x", "s/..data", ".", "..", "/etc"):
        with pytest.raises(Refused, match="no name of a Secret"):
            credentials_of(name, tmp_path)


def test_secrets_are_hidden_and_what_helps_is_not() -> None:
    given = {
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://minio",
        "GOOGLE_SERVICE_ACCOUNT_KEY": "letmein",
        "MLFLOW_TRACKING_USERNAME": "someone",
        "EMPTY": "",
    }
    text = " ".join(given.values())
    assert hidden(text, given) == "*** eu-west-1 http://minio *** someone "


def test_a_store_is_opened_by_its_kind_with_the_credentials_that_it_names(tmp_path: Path) -> None:
    secrets = {"AWS_ACCESS_KEY_ID": b"a", "AWS_SECRET_ACCESS_KEY": b"hunter2"}
    mounted(tmp_path / "s", **secrets)
    for kind, uri, shown in (
        (StoreKind.FOLDER, str(tmp_path), str(tmp_path)),
        (StoreKind.BUCKET, "s3://bucket/a/", "s3://bucket/a"),
        (StoreKind.MLFLOW, "http://mlflow:5000/", "http://mlflow:5000"),
    ):
        store = Store(kind=kind, uri=uri, credentials="s", study="n/u", steps="n/s")
        assert open_store(store, tmp_path).uri == shown
        with pytest.raises(Refused, match="mount the Secret there"):
            open_store(store.model_copy(update={"credentials": "none"}), tmp_path)
