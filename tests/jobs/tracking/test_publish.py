"""The publish stage as a process, as its Job runs it."""

import base64
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from paretune.api.publication import Publication, record_files
from paretune.tracking.connection import connected
from paretune.tracking.sync import SyncReport, sync
from paretune.tracking.view import StudyView
from paretune.tracking.wanted import Parts
from paretune_contract.failure import Reason
from paretune_contract.stages import IntakeResult, Result
from paretune_contract.task import GIVE_UP, TRY_AGAIN, Store, StoreKind, candidate_name, intake_name
from paretune_contract.termination import from_message
from paretune_store.stores import open_store
from support.made_study import folder_of, made_view, manifest, model
from support.mlflow_server import closed_port, hanging_server
from support.mlflow_store import Store as Seen
from support.operator_image import as_in_image


@dataclass
class Job:
    """One study's publish Job: what is mounted, and what it is told."""

    folder: Path
    view: StudyView
    publication: Publication

    @property
    def records(self) -> Path:
        return self.folder / "records"

    def write_records(self, keep: Callable[[str], bool] = lambda _: True) -> None:
        shutil.rmtree(self.records, ignore_errors=True)
        self.records.mkdir()
        numbers = {self.view.front.baseline.trial, *(e.trial for e in self.view.front.front)}
        trials = [t for t in self.view.trials if t.number in numbers]
        for name, data in record_files(self.view.front, trials).items():
            if keep(name):
                (self.records / name).write_bytes(data)

    def run(self, **changes: Any) -> tuple[int, Result, str]:
        """Exit code, termination message, and everything that was printed."""
        document = self.publication.model_copy(update=changes).model_dump_json(
            by_alias=True, exclude_defaults=True
        )
        message = self.folder / "termination-log"
        message.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, *as_in_image("paretune.tracking.publish")],
            env={
                **os.environ,
                "PARETUNE_PUBLISH": document,
                "PARETUNE_RECORDS": str(self.records),
                "PARETUNE_SECRETS": str(self.folder / "secrets"),
                "PARETUNE_TERMINATION_LOG": str(message),
            },
            text=True,
            capture_output=True,
            check=False,
        )
        return done.returncode, from_message(message.read_text(), "publish"), done.stdout + done.stderr


def job(folder: Path, name: str, server: str) -> Job:
    view = made_view(folder / "study", 6, study=manifest(name), uid=name)
    store = Store(kind=StoreKind.FOLDER, uri=str(folder / "store"), study=f"team/{name}", steps="team/steps")
    (folder / "store").mkdir()
    objects = open_store(store)
    for entry in view.front.front:
        sha = entry.artifact.sha256
        objects.put(candidate_name(store, sha), folder_of(view) / "candidates" / f"{sha}.tflite")
    intake = IntakeResult(model=model()).model_dump_json(by_alias=True)
    objects.put_bytes(intake_name(store), intake.encode())
    made = Job(
        folder,
        view,
        Publication(
            tracking_uri=server,
            experiment=f"experiment of {name}",
            registered_model=f"{name}-edge",
            study=view.study,
            uid=view.uid,
            seed=view.seed,
            model=view.model,
            store=store,
        ),
    )
    made.write_records()
    return made


def as_published(made: Job) -> StudyView:
    tracking = {
        "experiment": made.publication.experiment,
        "registeredModel": made.publication.registered_model,
    }
    return replace(made.view, study=manifest(made.view.name, tracking=tracking))


def test_the_front_is_registered_once_however_often_the_stage_runs(
    tmp_path: Path, server: str, patient: None
) -> None:
    made = job(tmp_path, "shipped", server)
    code, result, printed = made.run()
    assert (code, result.reason) == (0, None), printed
    front = {e.artifact.sha256 for e in made.view.front.front}
    assert result.message == f"the front's {len(front)} models are in MLflow at {server} as shipped-edge"

    view = as_published(made)
    with connected(server) as client:
        seen = Seen(client, view)
        assert set(seen.models()) == front
        before = _everything(client, seen)
        got = Path(
            mlflow.artifacts.download_artifacts("models:/shipped-edge@knee", dst_path=str(tmp_path / "got"))
        )
    document = yaml.safe_load((got / "MLmodel").read_text())
    sha = document["flavors"]["tflite"]["sha256"]
    assert (got / "model.tflite").read_bytes() == (
        folder_of(view) / "candidates" / f"{sha}.tflite"
    ).read_bytes()
    assert json.loads(document["signature"]["inputs"])[0]["name"] == "image"

    shutil.rmtree(tmp_path / "store" / "team" / "shipped" / "candidates")  # it needs none of them again
    assert made.run()[0] == 0
    with connected(server) as client:
        assert _everything(client, Seen(client, view)) == before

    report = sync(replace(view, artifacts=None, source=None), tmp_path / "l.json", server, parts=Parts.RUNS)
    assert (report.error, report.left) == ("", 0)
    assert made.run()[0] == 0
    with connected(server) as client:
        seen = Seen(client, view)
        assert set(seen.trials()) == set(range(6))
        assert len(seen.versions()) == len(front)
        assert len(seen.study().outputs.model_outputs) == len(front)
    again = sync(replace(view, artifacts=None, source=None), tmp_path / "l.json", server, parts=Parts.RUNS)
    assert again == SyncReport(0, 0)


def _everything(client: Any, seen: Seen) -> Any:
    return (
        {r.info.run_id: r.data.to_dictionary() for r in seen.runs()},
        {sha: (m.model_id, str(m.status)) for sha, m in seen.models().items()},
        {v.version: (v.source, v.tags, v.description) for v in seen.versions()},
        client.get_registered_model("shipped-edge").aliases,
    )


@pytest.mark.parametrize("kind", ["dead", "hanging"])
def test_a_server_that_does_not_answer_is_worth_another_attempt(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with hanging_server() as hanging:
        address = hanging if kind == "hanging" else f"http://127.0.0.1:{closed_port()}"
        code, result, _ = job(tmp_path, "patience", address).run()
    assert code == TRY_AGAIN
    assert result.reason is Reason.STORE_UNAVAILABLE
    assert result.message == f"MLflow at {address} does not answer"


def test_a_candidate_that_is_lost_or_damaged_is_named_and_the_others_are_published(
    tmp_path: Path, server: str, patient: None
) -> None:
    made = job(tmp_path, "holes", server)
    lost, damaged = (e.artifact.sha256 for e in made.view.front.front[:2])
    folder = tmp_path / "store" / "team" / "holes" / "candidates"
    (folder / f"{lost}.tflite").unlink()
    original = (folder / f"{damaged}.tflite").read_bytes()
    (folder / f"{damaged}.tflite").write_bytes(bytes([original[0] ^ 1]) + original[1:])
    code, result, printed = made.run()
    assert code == GIVE_UP, printed
    assert result.reason is Reason.STEP_FAILED
    assert lost in result.message or damaged in result.message
    with connected(server) as client:
        ready = {v.source for v in Seen(client, as_published(made)).versions()}
    assert len(ready) == len(made.view.front.front) - 2


def test_a_store_that_is_away_is_worth_another_attempt_and_one_that_refuses_is_not(
    tmp_path: Path, server: str, patient: None
) -> None:
    made = job(tmp_path, "stores", server)
    store = made.publication.store
    away = store.model_copy(update={"uri": f"http://127.0.0.1:{closed_port()}", "kind": StoreKind.MLFLOW})
    code, result, _ = made.run(store=away)
    assert (code, result.reason) == (TRY_AGAIN, Reason.STORE_UNAVAILABLE)
    code, result, _ = made.run(store=store.model_copy(update={"credentials": "no-such-secret"}))
    assert (code, result.reason) == (GIVE_UP, Reason.STORE_UNAVAILABLE)
    assert "no-such-secret" in result.message


def test_what_it_is_told_is_checked_and_named(tmp_path: Path) -> None:
    made = job(tmp_path, "told", f"http://127.0.0.1:{closed_port()}")
    code, result, _ = made.run(state="Running")
    assert (code, result.reason) == (GIVE_UP, Reason.INTERNAL)
    assert "'Running' is no end" in result.message

    made.write_records(lambda name: not name.startswith("0000"))
    code, result, _ = made.run()
    assert code == GIVE_UP
    assert "lacks the records of trials 0" in result.message

    made.write_records(lambda name: name != "front.json.gz")
    assert "has no front.json" in made.run()[1].message

    made.write_records()
    (made.records / "0001.yaml").write_text("spec: [")
    assert "0001.yaml is no record" in made.run()[1].message

    os.environ.pop("PARETUNE_PUBLISH", None)
    done = subprocess.run(
        [sys.executable, "-m", "paretune.tracking.publish"],
        env={**os.environ, "PARETUNE_TERMINATION_LOG": str(tmp_path / "log")},
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == GIVE_UP
    assert "PARETUNE_PUBLISH is not set" in (tmp_path / "log").read_text()


def test_records_of_a_large_front_fit_into_a_config_map(tmp_path: Path) -> None:
    view = made_view(tmp_path, 40)
    files = record_files(view.front, view.trials)
    assert set(files) == {"front.json.gz", *(f"{n:04d}.json.gz" for n in range(40))}
    assert gzip.decompress(files["0003.json.gz"]).startswith(b'{"apiVersion":"paretune.dev/v1alpha1"')
    encoded = sum(len(base64.b64encode(data)) for data in files.values())
    assert encoded / 40 * 256 < 2**20
    assert record_files(view.front, view.trials) == files
