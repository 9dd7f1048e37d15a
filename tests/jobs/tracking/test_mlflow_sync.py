"""Against a real MLflow: one sqlite store for all tests, since its first migration takes seconds."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from paretune.tracking.connection import artifact_root, connected
from paretune.tracking.records import STUDY_UID, TRIAL
from paretune.tracking.sync import SyncReport, sync, watch
from paretune.tracking.view import StudyView
from paretune.tracking.wanted import Detail
from support.made_study import ACCURACY, DOWNLOAD, folder_of, grown, made_view, manifest
from support.mlflow_server import closed_port as free_port
from support.mlflow_server import hanging_server
from support.mlflow_store import Store


def ledger(view: StudyView) -> Path:
    return folder_of(view) / "tracking.json"


def candidate(view: StudyView, sha: str) -> Path:
    return folder_of(view) / "candidates" / f"{sha}.tflite"


def logged(view: StudyView, uri: str, **how: Any) -> SyncReport:
    report = sync(view, ledger(view), uri, **how)
    assert report.error == ""
    assert report.left == 0
    return report


@pytest.fixture
def client(uri: str) -> Iterator[Any]:
    with connected(uri) as found:
        yield found


def test_a_study_is_written_once_and_found_complete_the_second_time(
    tmp_path: Path, uri: str, client: Any
) -> None:
    view = made_view(tmp_path, 12, study=manifest("whole"), uid="whole")
    first = logged(view, uri, detail=Detail.EVERYTHING)
    assert first.written > 12
    store = Store(client, view)
    before = {n: run.info.run_id for n, run in store.trials().items()}
    assert logged(view, uri).written == 0
    assert {n: run.info.run_id for n, run in store.trials().items()} == before
    assert set(before) == set(range(12))

    study = store.study()
    assert study.info.status == "FINISHED"
    assert "hunter2" not in str(study.to_dictionary())
    assert f"run_uuid={study.info.run_id}" in study.data.tags["mlflow.note.content"]
    assert {f.path for f in client.list_artifacts(study.info.run_id)} == {
        "front.json", "front.png", "front-small.png", "front-table.json", "front.html", "report.html",
    }  # fmt: skip
    curve = client.get_metric_history(study.info.run_id, "hypervolume")
    assert [m.step for m in curve] == list(range(12))
    assert store.experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert store.experiment.artifact_location == artifact_root(uri)


def test_trials_are_children_with_settings_metrics_and_reasons(tmp_path: Path, uri: str, client: Any) -> None:
    view = made_view(tmp_path, 9, study=manifest("children"), uid="children", failed=(7,))
    logged(view, uri, detail=Detail.RECORDS)
    store = Store(client, view)
    parent, trials = store.study().info.run_id, store.trials()
    assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} == {parent}
    assert trials[3].data.params["quantization.scheme"] == "int8"
    assert trials[3].data.metrics["accuracy.low"] < trials[3].data.metrics["accuracy"]
    assert trials[3].data.metrics["seconds/quantize"] == pytest.approx(0.4)
    assert trials[3].info.status == "FINISHED"
    assert trials[7].info.status == "FAILED"
    assert trials[7].data.tags["paretune.reason"] == "Crashed"
    log = client.download_artifacts(trials[7].info.run_id, "logs/0007-compress.log", str(tmp_path))
    assert "Segmentation fault" in Path(log).read_text()
    ended = trials[3].info
    assert ended.end_time - ended.start_time == 18_000


def test_a_new_final_trial_adds_one_run(tmp_path: Path, uri: str, client: Any) -> None:
    view = made_view(tmp_path, 5, study=manifest("growing"), uid="growing", state="Running")
    logged(view, uri, detail=Detail.RECORDS)
    store = Store(client, view)
    before = {n: run.info.run_id for n, run in store.trials().items()}
    assert store.study().info.status == "RUNNING"
    assert store.models() == {}
    logged(grown(view, 6), uri, detail=Detail.RECORDS, verify=False)
    after = {n: run.info.run_id for n, run in store.trials().items()}
    assert set(after) - set(before) == {5}
    assert {n: after[n] for n in before} == before
    assert len(client.get_metric_history(store.study().info.run_id, "hypervolume")) == 6


def test_a_lost_ledger_duplicates_nothing(tmp_path: Path, uri: str, client: Any) -> None:
    view = made_view(tmp_path, 9, study=manifest("forgetful"), uid="forgetful")
    logged(view, uri, detail=Detail.PICTURE)
    store = Store(client, view)
    runs, versions = {r.info.run_id for r in store.runs()}, {v.version for v in store.versions()}
    models = {m.model_id for m in store.models().values()}
    ledger(view).unlink()
    assert logged(view, uri, detail=Detail.PICTURE).written == 0
    assert {r.info.run_id for r in store.runs()} == runs
    assert {v.version for v in store.versions()} == versions
    assert {m.model_id for m in store.models().values()} == models


def test_a_ledger_that_is_ahead_of_the_store_is_not_believed(tmp_path: Path, uri: str, client: Any) -> None:
    view = made_view(tmp_path, 4, study=manifest("rewound"), uid="rewound")
    logged(view, uri, detail=Detail.RECORDS)
    store = Store(client, view)
    client.delete_run(store.trials()[2].info.run_id)
    assert 2 not in store.trials()
    logged(view, uri, detail=Detail.RECORDS)
    assert set(store.trials()) == {0, 1, 2, 3}


def test_a_run_that_was_left_half_written_is_completed(tmp_path: Path, uri: str, client: Any) -> None:
    view = made_view(tmp_path, 3, study=manifest("halfway"), uid="halfway", state="Running")
    logged(view, uri, detail=Detail.RECORDS)
    store = Store(client, view)
    study = store.study().info.run_id
    tags = {STUDY_UID: view.uid, TRIAL: "3", "mlflow.parentRunId": study}
    orphan = client.create_run(store.experiment.experiment_id, tags=tags).info.run_id
    logged(grown(view, 4), uri, detail=Detail.RECORDS)
    run = store.trials()[3]
    assert run.info.run_id == orphan
    assert run.data.params["quantization.scheme"] == "int8"
    assert run.info.status == "FINISHED"


def test_each_model_of_the_front_is_registered_with_its_file_and_signature(
    tmp_path: Path, uri: str, client: Any
) -> None:
    import mlflow

    study = manifest("shelf", (ACCURACY, DOWNLOAD), tracking={"registeredModel": "digits-edge"})
    view = made_view(tmp_path, 12, study=study, uid="shelf")
    logged(view, uri, detail=Detail.RECORDS)
    store = Store(client, view)
    front = {entry.artifact.sha256: entry for entry in view.front.front}
    assert set(store.models()) == set(front)
    assert len(store.versions()) == len(front)
    for version in store.versions():
        assert "against the baseline" in version.description or "baseline" in version.description
        assert version.tags["paretune.front"] == "true"

    knee = client.get_model_version_by_alias("digits-edge", "knee")
    folder = Path(
        mlflow.artifacts.download_artifacts("models:/digits-edge@knee", dst_path=str(tmp_path / "got"))
    )
    written = yaml.safe_load((folder / "MLmodel").read_text())
    flavor = written["flavors"]["tflite"]
    entry = front[flavor["sha256"]]
    assert (folder / flavor["data"]).read_bytes() == candidate(view, entry.artifact.sha256).read_bytes()
    assert str(entry.trial) == knee.tags["paretune.trial"]
    signature = mlflow.models.get_model_info("models:/digits-edge@knee").signature
    assert signature.inputs.inputs[0].name == "image"
    assert signature.inputs.inputs[0].shape == (1, 8, 8, 1)
    assert signature.outputs.inputs[0].shape == (1, 10)

    cheap = client.search_logged_models(
        [store.experiment.experiment_id],
        f"metrics.downloadSize < 40000 AND params.`quantization.scheme` = 'int8' "
        f"AND tags.`{STUDY_UID}` = 'shelf'",
    )
    assert cheap
    assert all(model.params["quantization.scheme"] == "int8" for model in cheap)
    outputs = store.study().outputs.model_outputs
    assert {o.model_id for o in outputs} == {m.model_id for m in store.models().values()}


def test_the_values_shown_are_those_of_the_fresh_rounds(tmp_path: Path, uri: str, client: Any) -> None:
    view = made_view(tmp_path, 4, study=manifest("fresh"), uid="fresh")
    logged(view, uri, detail=Detail.RECORDS)
    entry = next(e for e in view.front.front if e.trial != 0)
    run = Store(client, view).trials()[entry.trial]
    assert run.data.metrics["latency/cpu"] == pytest.approx(entry.metrics["latency/cpu"].value)
    assert run.data.metrics["test/accuracy"] == pytest.approx((entry.test or {})["accuracy"].value)
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "latency/cpu")]
    assert sorted(set(steps)) == [0, 1]


def test_aliases_name_the_best_and_the_knee_and_stay_where_a_person_moved_them(
    tmp_path: Path, uri: str, client: Any
) -> None:
    view = made_view(tmp_path, 12, study=manifest("named"), uid="named")
    logged(view, uri, detail=Detail.RECORDS)
    aliases = client.get_registered_model("named").aliases
    assert set(aliases) == {"knee", "best-accuracy", "best-downloadSize", "best-latency-cpu"}
    smallest = min(view.front.front, key=lambda e: e.metrics["downloadSize"].value)
    version = client.get_model_version("named", aliases["best-downloadSize"])
    assert version.tags["paretune.trial"] == str(smallest.trial)
    other = next(v.version for v in Store(client, view).versions() if v.version != aliases["knee"])
    client.set_registered_model_alias("named", "knee", other)
    ledger(view).unlink()
    logged(view, uri, detail=Detail.RECORDS)
    assert str(client.get_registered_model("named").aliases["knee"]) == str(other)


def test_a_continued_study_retires_the_models_it_has_beaten(tmp_path: Path, uri: str, client: Any) -> None:
    view = made_view(tmp_path, 6, study=manifest("continued"), uid="continued")
    logged(view, uri, detail=Detail.RECORDS)
    later = grown(view, 24)
    logged(later, uri, detail=Detail.RECORDS)
    front = {str(e.trial) for e in later.front.front}
    left = {str(e.trial) for e in view.front.front} - front
    assert left
    told = {v.tags["paretune.trial"]: v.tags["paretune.front"] for v in Store(client, view).versions()}
    assert told == dict.fromkeys(front, "true") | dict.fromkeys(left, "false")
    assert logged(later, uri, detail=Detail.RECORDS).written == 0


def test_a_damaged_candidate_holds_nothing_else_up(tmp_path: Path, uri: str, client: Any) -> None:
    view = made_view(tmp_path, 9, study=manifest("damaged"), uid="damaged")
    entry = view.front.front[0]
    candidate(view, entry.artifact.sha256).write_bytes(b"not what the record says")
    report = sync(view, ledger(view), uri, detail=Detail.RECORDS)
    assert report.left >= 1
    assert "was changed" in report.error
    store = Store(client, view)
    assert len(store.trials()) == 9
    assert len(store.versions()) == len(view.front.front) - 1


@pytest.fixture
def closed_port() -> int:
    return free_port()


def test_a_dead_server_is_reported_with_what_is_left_and_no_password(
    tmp_path: Path, closed_port: int
) -> None:
    view = made_view(tmp_path, 6, study=manifest("offline"), uid="offline")
    before = dict(os.environ)
    report = sync(view, ledger(view), f"http://me:hunter2@127.0.0.1:{closed_port}")
    assert report.written == 0
    assert report.left > 6
    assert "does not answer" in report.error
    assert "hunter2" not in report.error
    assert not ledger(view).exists() or "hunter2" not in ledger(view).read_text()
    assert dict(os.environ) == before


def test_a_server_that_accepts_and_never_answers_is_given_up(tmp_path: Path) -> None:
    view = made_view(tmp_path, 2, study=manifest("silent"), uid="silent")
    with hanging_server() as address:
        report = sync(view, ledger(view), address)
    assert "does not answer" in report.error
    assert report.left > 2


def test_what_a_dead_server_missed_is_written_when_it_is_back(
    tmp_path: Path, uri: str, closed_port: int, client: Any
) -> None:
    view = made_view(tmp_path, 4, study=manifest("late"), uid="late")
    assert sync(view, ledger(view), f"http://127.0.0.1:{closed_port}").left > 0
    logged(view, uri, detail=Detail.RECORDS)
    assert set(Store(client, view).trials()) == {0, 1, 2, 3}


def test_a_watcher_follows_the_study_and_completes_it_at_the_end(tmp_path: Path, uri: str) -> None:
    view = made_view(tmp_path, 3, study=manifest("watched"), uid="watched", state="Running")
    steps: list[StudyView | None] = [None, view, grown(view, 4), grown(view, 5)]
    stop, told = threading.Event(), []

    def load() -> StudyView | None:
        if len(steps) == 1:
            stop.set()
            return replace(steps[0] or view, state="Complete")
        return steps.pop(0)

    report = watch(load, ledger(view), uri, stop, every=0.01, tell=told.append)
    assert report.error == ""
    assert [t.error for t in told] == [""] * len(told)
    with connected(uri) as client:
        store = Store(client, view)
        assert set(store.trials()) == set(range(5))
        assert store.study().info.status == "FINISHED"
        assert "report.html" in {f.path for f in client.list_artifacts(store.study().info.run_id)}


def test_a_fault_while_loading_does_not_end_the_watcher(tmp_path: Path, uri: str) -> None:
    view = made_view(tmp_path, 2, study=manifest("stumble"), uid="stumble")
    stop, calls = threading.Event(), []

    def load() -> StudyView:
        calls.append(1)
        if len(calls) == 1:
            raise OSError("the record was being written")
        stop.set()
        return view

    report = watch(load, ledger(view), uri, stop, every=0.01)
    assert (report.error, report.left) == ("", 0)
    assert len(calls) >= 2


def test_a_tracking_server_gets_the_same_as_the_embedded_store(
    tmp_path: Path, server: str, patient: None
) -> None:
    view = made_view(tmp_path / "study", 6, study=manifest("remote"), uid="remote")
    logged(view, server)
    assert logged(view, server).written == 0
    with connected(server) as client:
        import mlflow

        store = Store(client, view)
        assert set(store.trials()) == set(range(6))
        assert len(store.versions()) == len(view.front.front)
        got = Path(mlflow.artifacts.download_artifacts("models:/remote@knee", dst_path=str(tmp_path / "got")))
        assert (got / "model.tflite").read_bytes()[4:8] == b"TFL3"
        assert store.experiment.artifact_location.startswith("mlflow-artifacts:")
