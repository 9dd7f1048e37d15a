"""Models that MLflow's own client registered, read without it."""

from pathlib import Path
from typing import Any

import pytest
from paretune_contract.failure import Reason, StageError
from paretune_store.fetch import fetch, fetch_cached
from paretune_store.steps import StepCache

LIMIT = 1_000_000


@pytest.fixture
def client(tracking: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow import MlflowClient

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # not the one of the credentials
    return MlflowClient(tracking[0], tracking[0])


def logged(client: Any, folder: Path, name: str) -> str:
    """Version of a registered model whose artifacts are those of a logged model, as MLflow 3 does it."""
    model = client.create_logged_model("0", name=name)
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model(name)
    version = client.create_model_version(name, f"models:/{model.model_id}", model_id=model.model_id)
    return str(version.version)


def test_a_version_and_an_alias_give_the_file(
    client: Any, tracking: tuple[str, Path], tmp_path: Path
) -> None:
    where = {"MLFLOW_TRACKING_URI": tracking[0]}
    folder = tmp_path / "kws"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}")
    (folder / "data" / "model.keras").write_bytes(b"k" * 1000)
    version = logged(client, folder, "kws")
    client.set_registered_model_alias("kws", "champion", version)
    for uri in (f"models:/kws/{version}", "models:/kws@champion"):
        path = fetch(uri, tmp_path / uri[-1], limit_bytes=LIMIT, credentials=where)
        assert (path, path.read_bytes()) == (tmp_path / uri[-1] / "model.keras", b"k" * 1000)
    with pytest.raises(StageError, match="1,000 bytes; the limit is 999"):
        fetch("models:/kws@champion", tmp_path / "small", limit_bytes=999, credentials=where)


def test_a_saved_model_of_a_run_gives_its_folder(
    client: Any, tracking: tuple[str, Path], tmp_path: Path
) -> None:
    run = client.create_run("0")
    (tmp_path / "m" / "data" / "model" / "variables").mkdir(parents=True)
    (tmp_path / "m" / "data" / "model" / "saved_model.pb").write_bytes(b"pb")
    (tmp_path / "m" / "data" / "model" / "variables" / "variables.index").write_bytes(b"index")
    client.log_artifacts(run.info.run_id, str(tmp_path / "m"), "m")
    client.create_registered_model("saved")
    source = f"{run.info.artifact_uri}/m"
    version = client.create_model_version("saved", source, run_id=run.info.run_id).version
    where = {"MLFLOW_TRACKING_URI": tracking[0]}
    folder = fetch(f"models:/saved/{version}", tmp_path / "d", limit_bytes=LIMIT, credentials=where)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        "saved_model.pb",
        "variables/variables.index",
    }


def test_what_is_not_registered_is_the_owners_to_cure(
    client: Any, tracking: tuple[str, Path], tmp_path: Path
) -> None:
    where = {"MLFLOW_TRACKING_URI": tracking[0]}
    for uri in ("models:/nobody/1", "models:/nobody@champion"):
        with pytest.raises(StageError, match="has no such model and version") as caught:
            fetch(uri, tmp_path, limit_bytes=LIMIT, credentials=where)
        assert caught.value.reason is Reason.MODEL_UNREADABLE
        assert uri in caught.value.message
    with pytest.raises(StageError) as caught:
        fetch("models:/nobody/1", tmp_path, limit_bytes=LIMIT, pause=lambda _: None)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


def test_a_registered_model_is_kept_as_a_step(
    client: Any, tracking: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking[0])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "model.tflite").write_bytes(b"tflite")
    version = logged(client, tmp_path / "c", "cached")
    path = fetch_cached(f"models:/cached/{version}", StepCache(tmp_path / "cache"))
    assert (path.name, path.read_bytes()) == ("model.tflite", b"tflite")
