"""Runs and models are written by different processes: each half alone, in any order, and both at once."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from paretune.tracking.connection import connected
from paretune.tracking.deletion import tag_deleted
from paretune.tracking.flavor import signature
from paretune.tracking.records import DIGEST, STUDY_DELETED
from paretune.tracking.sync import SyncReport, sync
from paretune.tracking.tflite_io import Port
from paretune.tracking.view import StudyView
from paretune.tracking.wanted import Detail, Parts
from support.made_study import grown, made_view, manifest, model
from support.mlflow_store import Store


@pytest.fixture
def client(uri: str) -> Iterator[Any]:
    with connected(uri) as found:
        yield found


def operators(view: StudyView) -> StudyView:
    """What the operator has: no files, no layers."""
    return replace(view, artifacts=None, source=None)


def published(view: StudyView) -> StudyView:
    """What the publish stage has: the records of front and baseline."""
    numbers = {view.front.baseline.trial, *(e.trial for e in view.front.front)}
    return replace(view, trials=tuple(t for t in view.trials if t.number in numbers))


def runs(view: StudyView, uri: str, folder: Path, **how: Any) -> SyncReport:
    return sync(operators(view), folder / "runs.json", uri, parts=Parts.RUNS, **how)


def models(view: StudyView, uri: str, folder: Path) -> SyncReport:
    return sync(published(view), folder / "models.json", uri, parts=Parts.MODELS)


def state(client: Any, view: StudyView) -> dict[str, Any]:
    """Everything of a study that a person sees, with the ids of what it is on."""
    store = Store(client, view)
    registered = client.get_registered_model(view.name)
    return {
        "runs": {r.info.run_id: (r.info.status, r.data.to_dictionary()) for r in store.runs()},
        "models": {sha: (m.model_id, str(m.status), m.tags) for sha, m in store.models().items()},
        "versions": {v.version: (v.source, v.tags, v.description) for v in store.versions()},
        "aliases": registered.aliases,
        "outputs": sorted(o.model_id for o in store.study().outputs.model_outputs),
        "files": sorted(f.path for f in client.list_artifacts(store.study().info.run_id)),
    }


def whole(view: StudyView, client: Any) -> None:
    store = Store(client, view)
    assert set(store.trials()) == set(range(len(view.trials)))
    assert all(run.data.tags.get(DIGEST) for run in store.runs())
    assert store.study().info.status == "FINISHED"
    assert set(store.models()) == {e.artifact.sha256 for e in view.front.front}
    assert len(store.versions()) == len(view.front.front)
    assert "knee" in client.get_registered_model(view.name).aliases
    assert {f.path for f in client.list_artifacts(store.study().info.run_id)} >= {"front.html", "report.html"}
    parent = store.study().info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in store.trials().values()} == {parent}
    assert len(store.study().outputs.model_outputs) == len(view.front.front)


@pytest.mark.parametrize("first", [Parts.RUNS, Parts.MODELS])
def test_the_halves_make_a_whole_in_any_order_and_change_nothing_the_second_time(
    tmp_path: Path, uri: str, client: Any, first: Parts
) -> None:
    name = f"first-{str(first.name).lower()}"
    view = made_view(tmp_path, 9, study=manifest(name), uid=name)
    for half in (runs, models) if first is Parts.RUNS else (models, runs):
        report = half(view, uri, tmp_path)
        assert (report.error, report.left) == ("", 0)
        assert report.written > 0
    whole(view, client)
    before = state(client, view)
    for half in (models, runs, models):
        assert half(view, uri, tmp_path) == SyncReport(0, 0)
    assert state(client, view) == before


def test_without_the_other_half_there_are_no_models_or_no_pages(
    tmp_path: Path, uri: str, client: Any
) -> None:
    view = made_view(tmp_path / "a", 6, study=manifest("runs-alone"), uid="runs-alone")
    assert runs(view, uri, tmp_path).left == 0
    assert Store(client, view).models() == {}
    assert Store(client, view).versions() == []

    view = made_view(tmp_path / "b", 6, study=manifest("models-alone"), uid="models-alone")
    assert models(view, uri, tmp_path).left == 0
    store = Store(client, view)
    assert set(store.trials()) == {e.trial for e in view.front.front}
    assert client.list_artifacts(store.study().info.run_id) == []
    assert store.study().data.tags.get(DIGEST) is None


def test_a_study_that_goes_on_keeps_what_was_published_until_it_is_published_again(
    tmp_path: Path, uri: str, client: Any
) -> None:
    view = made_view(tmp_path, 6, study=manifest("resumed"), uid="resumed")
    assert runs(view, uri, tmp_path).left == models(view, uri, tmp_path).left == 0
    before = {v.version: v.tags["paretune.front"] for v in Store(client, view).versions()}
    later = grown(view, 24)
    assert runs(later, uri, tmp_path).left == 0
    assert {v.version: v.tags["paretune.front"] for v in Store(client, view).versions()} == before
    assert models(later, uri, tmp_path).left == 0
    front = {str(e.trial) for e in later.front.front}
    told = {v.tags["paretune.trial"]: v.tags["paretune.front"] for v in Store(client, view).versions()}
    assert {trial for trial, on in told.items() if on == "true"} == front
    assert "false" in told.values()


def test_both_halves_at_once_settle_on_the_same_runs(
    tmp_path: Path, uri: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other half writes everything between one half's look at the store and its first write."""
    import paretune.tracking.sync as module

    view = made_view(tmp_path, 6, study=manifest("at-once"), uid="at-once")
    honest = module.observe
    looked: list[str] = []

    def observe(*arguments: Any) -> Any:
        found = honest(*arguments)
        if not looked:
            looked.append("models")
            assert runs(view, uri, tmp_path).error == ""
        return found

    monkeypatch.setattr(module, "observe", observe)
    report = models(view, uri, tmp_path)
    assert (report.error, report.left) == ("", 0)
    assert runs(view, uri, tmp_path).left == 0
    whole(view, client)


def test_a_sync_that_runs_out_of_time_says_what_is_left_and_goes_on_later(
    tmp_path: Path, uri: str, client: Any
) -> None:
    view = made_view(tmp_path, 6, study=manifest("slices"), uid="slices")
    first = runs(view, uri, tmp_path, seconds=0, detail=Detail.RECORDS)
    assert first.written == 0
    assert first.left > 6
    assert first.error == ""
    assert runs(view, uri, tmp_path, detail=Detail.RECORDS).left == 0


def test_an_mlmodel_has_the_signature_that_mlflow_would_write() -> None:
    import numpy as np

    ports = (Port("x", "float32", (1, 8, 8, 1)), Port("y", "int8", (-1, 10), 0.5, -128))
    wanted = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), (1, 8, 8, 1), "image")]),
        outputs=Schema([TensorSpec(np.dtype("int8"), (-1, 10), "digit")]),
    ).to_dict()
    found = signature(ports[:1], ports[1:], model())
    assert {k: json.loads(v) for k, v in found.items() if v} == {
        k: json.loads(v) for k, v in wanted.items() if v
    }
    assert json.loads(signature(ports[:1], ports[1:], None)["inputs"] or "")[0]["name"] == "x"


def test_runs_of_a_deleted_study_stay_with_a_tag_that_is_written_once(
    tmp_path: Path, uri: str, client: Any
) -> None:
    view = made_view(tmp_path, 4, study=manifest("gone"), uid="gone", state="Running")
    other = made_view(tmp_path, 2, study=manifest("gone"), uid="still-here", state="Running")
    for each in (view, other):
        assert runs(each, uri, tmp_path / each.uid, detail=Detail.RECORDS).left == 0
    assert tag_deleted("gone", "2026-03-14T09:00:00+00:00", uri) == SyncReport(5, 0)
    assert tag_deleted("gone", "2026-03-15T09:00:00+00:00", uri) == SyncReport(0, 0)
    found = Store(client, view).runs()
    assert {run.data.tags[STUDY_DELETED] for run in found} == {"2026-03-14T09:00:00+00:00"}
    assert len(found) == 5
    assert Store(client, view).study().info.status == "KILLED"
    assert not any(STUDY_DELETED in run.data.tags for run in Store(client, other).runs())
    assert tag_deleted("never-seen", "2026-03-14T09:00:00+00:00", uri) == SyncReport(0, 0)
