from pathlib import Path

from paretune.tracking.credentials import environment, hide, read_credentials


def test_only_what_mlflow_reads_is_taken_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "MLFLOW_TRACKING_USERNAME").write_text("me\n")
    (tmp_path / "MLFLOW_TRACKING_PASSWORD").write_text("")
    (tmp_path / "PATH").write_text("/evil")
    assert read_credentials(tmp_path) == {"MLFLOW_TRACKING_USERNAME": "me"}
    assert read_credentials(tmp_path / "missing") == {}
    assert read_credentials(None) == {}


def test_credentials_of_one_server_never_reach_another() -> None:
    base = {"MLFLOW_TRACKING_TOKEN": "of another", "HOME": "/x"}
    assert environment(base, {}) == {"HOME": "/x"}
    found = environment(base, {"MLFLOW_TRACKING_USERNAME": "me"})
    assert found == {"HOME": "/x", "MLFLOW_TRACKING_USERNAME": "me"}


def test_a_secret_that_a_server_repeats_is_hidden() -> None:
    assert hide("no hunter2 here", ("hunter2", "")) == "no *** here"
