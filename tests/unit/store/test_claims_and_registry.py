"""pvc:// and models:/, as far as they can be told without a server."""

from pathlib import Path

import pytest
from paretune_contract.failure import StageError
from paretune_store.errors import Unreadable
from paretune_store.fetch import fetch, fetch_cached
from paretune_store.registry import model_inside
from paretune_store.steps import StepCache
from paretune_store.uris import Place, locate


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    """A claim with a model and a folder, and a secret beside it."""
    root = tmp_path / "claims"
    (root / "models" / "saved").mkdir(parents=True)
    (root / "models" / "m.tflite").write_bytes(b"model")
    (root / "models" / "saved" / "saved_model.pb").write_bytes(b"pb")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("hunter2")
    return root


def got(uri: str, claims: Path) -> Path:
    return fetch(uri, claims.parent / "downloads", limit_bytes=100, claims=claims)


def test_what_a_claim_has_is_used_where_it_is(claims: Path) -> None:
    assert got("pvc://models/m.tflite", claims) == claims / "models" / "m.tflite"
    assert got("pvc://models/saved/", claims) == claims / "models" / "saved"
    assert got("pvc://models", claims) == claims / "models"
    (claims / "models" / "latest").symlink_to("saved")
    assert got("pvc://models/latest/saved_model.pb", claims).read_bytes() == b"pb"
    assert not (claims.parent / "downloads").exists()


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("pvc://models/none", "no such file or folder in the claim"),
        ("pvc://other/m.tflite", "the claim 'other' is not mounted at"),
        ("pvc://models/../models/m.tflite", "expected pvc://CLAIM/PATH"),
        ("pvc://models/saved//saved_model.pb", "expected pvc://CLAIM/PATH"),
        ("pvc://../secret/key", "no name of a PersistentVolumeClaim"),
        ("pvc:///m.tflite", "no name of a PersistentVolumeClaim"),
        ("pvc://Models/m", "no name of a PersistentVolumeClaim"),
    ],
)
def test_a_path_that_leaves_its_claim_is_refused(claims: Path, uri: str, cause: str) -> None:
    with pytest.raises(StageError) as caught:
        got(uri, claims)
    assert cause in caught.value.message


@pytest.mark.parametrize("target", ["../../secret", "{absolute}"])
def test_a_link_out_of_the_claim_is_refused_wherever_it_is(claims: Path, target: str) -> None:
    target = target.format(absolute=claims.parent / "secret")
    (claims / "models" / "link").symlink_to(target)
    for uri, cause in (
        ("pvc://models/link", "a link on its path leads out"),
        ("pvc://models/link/key", "a link on its path leads out"),
        ("pvc://models", "the link link in it leads out"),
    ):
        with pytest.raises(StageError, match=cause):
            got(uri, claims)
    (claims / "models" / "saved" / "key").symlink_to(claims.parent / "secret" / "key")
    with pytest.raises(StageError, match="the link saved/key in it leads out"):
        got("pvc://models/saved", claims)


def test_the_limit_holds_in_claims(claims: Path) -> None:
    (claims / "models" / "big").write_bytes(b"0" * 101)
    with pytest.raises(StageError, match="101 bytes; the limit is 100"):
        got("pvc://models/big", claims)


@pytest.mark.parametrize(
    ("uri", "name", "version"),
    [
        ("models:/kws/3", "kws", "3"),
        ("models:/kws@champion", "kws", "@champion"),
        ("models:/My model/12", "My model", "12"),
    ],
)
def test_a_registered_model_has_a_name_and_a_version_or_alias(uri: str, name: str, version: str) -> None:
    location = locate(uri)
    assert (location.place, location.bucket, location.key) == (Place.REGISTRY, name, version)


@pytest.mark.parametrize(
    "uri", ["models:/kws", "models:/", "models:/kws/Production", "models:/kws@", "models:/a/b/3"]
)
def test_a_registered_model_without_a_version_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="expected models:/NAME/VERSION or models:/NAME@ALIAS"):
        fetch(uri, tmp_path, limit_bytes=1)


def test_a_registry_whose_address_is_not_set_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(StageError, match="MLFLOW_TRACKING_URI is not set"):
        fetch("models:/kws/3", tmp_path, limit_bytes=1, credentials={})


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (["MLmodel", "model.tflite", "requirements.txt"], "model.tflite"),
        (["MLmodel", "data/model.keras", "data/keras_module.txt"], "data/model.keras"),
        (["MLmodel", "data/model/saved_model.pb", "data/model/variables/variables.index"], "data/model"),
    ],
)
def test_the_one_model_in_an_artifact_folder_is_found(names: list[str], model: str) -> None:
    assert model_inside(names) == model


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (["MLmodel", "model.pkl"], "no model of a kind that is read"),
        ([], "no model of a kind that is read"),
        (["a.tflite", "b.keras"], r"several models \(a.tflite, b.keras\)"),
        (["saved_model.pb"], "several models|no model|folder of its own"),
    ],
)
def test_none_or_several_models_are_refused(names: list[str], cause: str) -> None:
    with pytest.raises(Unreadable, match=cause):
        model_inside(names)


def test_a_claims_file_is_not_copied_into_the_cache(claims: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="is not mounted at /mnt/claims"):
        fetch_cached("pvc://no-such-claim/m", StepCache(tmp_path / "cache"))
