"""A whole study through the command line: a real model, real data, real processes, a real MLflow store."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from paretune.local.workdir import WorkDirectory
from paretune_codec import unpack

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "digits"
TRIALS = 9
pytestmark = pytest.mark.tensorflow


def paretune(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paretune.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits example, with fewer trials and short benchmarks."""
    folder = tmp_path_factory.mktemp("digits")
    subprocess.run([sys.executable, str(EXAMPLE / "train.py"), str(folder)], check=True, capture_output=True)
    manifest = yaml.safe_load((EXAMPLE / "study.yaml").read_text())
    manifest["spec"]["training"]["epochs"] = 1
    manifest["spec"]["budget"] = {"trials": TRIALS, "parallelism": 2}
    manifest["spec"]["benchmark"] = {"maxDuration": 1}
    (folder / "study.yaml").write_text(yaml.safe_dump(manifest))
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    """The study's work directory: killed once with SIGKILL on the way, then run to its end."""
    command = [sys.executable, "-m", "paretune.cli", "run", "study.yaml", "--workdir", "run"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    work = WorkDirectory(folder / "run")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        done = [t for t in work.read_trials() if t.final] if work.trials_folder.exists() else []
        if len(done) >= 3:
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {t.number: t for t in work.read_trials() if t.final}
    assert 3 <= len(before) < TRIALS
    result = paretune("run", "study.yaml", "--workdir", "run", cwd=folder)
    assert "Pareto front of digits" in result.stdout
    after = work.read_trials()
    searched = {"status": {"final"}}
    for number, trial in before.items():
        assert after[number].model_dump(exclude=searched) == trial.model_dump(exclude=searched)
    return folder / "run"


def test_every_trial_is_recorded_and_settings_are_distinct(finished: Path) -> None:
    trials = WorkDirectory(finished).read_trials()
    assert len(trials) == TRIALS
    assert all(t.final for t in trials)
    assert len({t.settings.digest() for t in trials}) == TRIALS


def test_the_front_has_fresh_rounds_test_metrics_and_its_files(finished: Path) -> None:
    front = json.loads((finished / "front.json").read_text())
    assert front["schemaVersion"] == 1
    assert front["front"]
    for member in front["front"]:
        file = finished / member["artifact"]["path"]
        assert file.stat().st_size == member["artifact"]["bytes"]
        assert 0.5 < member["test"]["accuracy"]["value"] <= 1
        assert member["metrics"]["latency/cpu"]["low"] <= member["metrics"]["latency/cpu"]["value"]
    counts = front["counts"]
    assert sum(counts[k] for k in ("complete", "infeasible", "pruned", "failed")) == TRIALS
    baseline = front["baseline"]["metrics"]
    smallest = min(m["metrics"]["downloadSize"]["value"] for m in front["front"])
    assert smallest < 0.5 * baseline["downloadSize"]["value"]


def test_every_suggestion_is_recomputed_to_the_same_settings(finished: Path) -> None:
    assert f"{TRIALS} suggestions recomputed" in paretune("replay", finished, cwd=finished).stdout


def test_mlflow_has_a_run_for_the_study_and_one_for_each_trial(finished: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "digits"]
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(parents) == 1
    assert len(runs) == TRIALS + 1
    versions = client.search_model_versions("name='digits-edge'")
    assert len(versions) == len(json.loads((finished / "front.json").read_text())["front"])


def test_the_report_stands_alone(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "digits" in page
    assert not re.search(r'(?:src|href)="https?://[^"]*\.(?:js|css)', page)


def test_an_exported_model_runs_as_its_readme_says(finished: Path, tmp_path: Path) -> None:
    paretune("export", "best-downloadSize", "-w", finished, "-o", tmp_path / "out", cwd=tmp_path)
    readme = (tmp_path / "out" / "README.md").read_text()
    match = re.search(r"```python\n(.*?)```", readme, re.S)
    assert match
    done = subprocess.run(
        [sys.executable, "-c", match[1]], cwd=tmp_path / "out", capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[-1]) in range(10)


def test_an_exported_container_has_the_bytes_that_were_measured(finished: Path, tmp_path: Path) -> None:
    paretune("export", "best-downloadSize", "-w", finished, "-o", tmp_path / "out", "--ptz", cwd=tmp_path)
    trial = yaml.safe_load((tmp_path / "out" / "trial.yaml").read_text())
    container = (tmp_path / "out" / "model.ptz").read_bytes()
    assert len(container) == trial["status"]["metrics"]["downloadSize"]["value"]
    assert hashlib.sha256(unpack(container)).hexdigest() == trial["status"]["artifact"]["sha256"]


def test_a_trial_is_explained_with_its_settings_steps_and_log(finished: Path) -> None:
    text = paretune("explain", "1", "-w", finished, cwd=finished).stdout
    assert "int8" in text
    assert "quantiz" in text
    assert "95% interval" in text


def test_a_changed_objective_is_refused_with_its_field(folder: Path, finished: Path) -> None:
    manifest = yaml.safe_load((folder / "study.yaml").read_text())
    manifest["spec"]["objectives"][0]["maxDrop"] = 0.5
    (folder / "changed.yaml").write_text(yaml.safe_dump(manifest))
    refused = paretune("run", "changed.yaml", "-w", finished, cwd=folder, code=2)
    assert "spec.objectives[0].maxDrop" in refused.stderr


def test_a_study_of_another_coder_is_refused_and_left_as_it_is(folder: Path, finished: Path) -> None:
    state = finished / "status.json"
    now = state.read_text()
    earlier = json.loads(now)
    assert earlier["coder"] == "paretune-1"
    state.write_text(json.dumps({**earlier, "coder": "zstd-22"}))
    refused = paretune("run", "study.yaml", "-w", finished, cwd=folder, code=2)
    assert "sizes by the coder zstd-22, this version makes paretune-1" in refused.stderr
    assert "--restart" in refused.stderr
    assert json.loads(state.read_text())["coder"] == "zstd-22"
    state.write_text(now)


def test_a_finished_study_is_complete_at_once_and_a_bigger_budget_goes_on(
    folder: Path, finished: Path
) -> None:
    manifest = yaml.safe_load((folder / "study.yaml").read_text())
    manifest["spec"]["budget"]["trials"] = TRIALS + 1
    (folder / "more.yaml").write_text(yaml.safe_dump(manifest))
    paretune("run", "more.yaml", "-w", finished, "--no-mlflow", cwd=folder)
    assert len(WorkDirectory(finished).read_trials()) == TRIALS + 1
    paretune("report", "--sync", "-w", finished, cwd=folder)


def test_interrupting_ends_with_130_and_leaves_no_process(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "paretune.cli",
        "run",
        "study.yaml",
        "-w",
        str(tmp_path / "run"),
        "--no-mlflow",
    ]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    work = WorkDirectory(tmp_path / "run")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (work.trials_folder.exists() and work.read_trials()):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert process.stderr is not None
    assert "Go on with: paretune run study.yaml" in process.stderr.read()


def test_a_pool_of_a_cluster_is_refused_here_with_both_cures(folder: Path, tmp_path: Path) -> None:
    manifest = yaml.safe_load((folder / "study.yaml").read_text())
    manifest["spec"]["devices"] = [{"name": "pi", "pool": "raspberry-pi-4"}]
    path = folder / "pool.yaml"
    path.write_text(yaml.safe_dump(manifest))
    refused = paretune("run", path, "-w", tmp_path / "run", cwd=folder, code=2)
    assert "--without pi" in refused.stderr
    assert "--as-local pi" in refused.stderr


def test_data_of_another_shape_names_both_shapes(folder: Path, tmp_path: Path) -> None:
    np.savez(folder / "wide.npz", x=np.zeros((10, 9, 9, 1), np.uint8), y=np.zeros(10, np.int64))
    manifest = yaml.safe_load((folder / "study.yaml").read_text())
    manifest["spec"]["dataset"]["evaluation"]["uri"] = "wide.npz"
    path = folder / "wide.yaml"
    path.write_text(yaml.safe_dump(manifest))
    refused = paretune("run", path, "-w", tmp_path / "run", cwd=folder, code=2)
    assert "9, 9, 1" in refused.stderr
    assert "8, 8, 1" in refused.stderr


def test_init_writes_a_study_that_is_valid_and_finds_the_layers(folder: Path) -> None:
    text = paretune("init", "model.keras", "--data", ".", cwd=folder).stdout
    (folder / "made.yaml").write_text(text)
    paretune("validate", "made.yaml", cwd=folder)
    shown = paretune("plan", "made.yaml", cwd=folder).stdout
    assert "CONV_2D" in shown
    assert "DEPTHWISE_CONV_2D" in shown


def test_a_model_that_is_no_model_ends_with_2_and_its_uri(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.keras").write_bytes(os.urandom(2000))
    manifest = yaml.safe_load((folder / "study.yaml").read_text())
    manifest["spec"]["model"]["uri"] = "broken.keras"
    path = folder / "broken.yaml"
    path.write_text(yaml.safe_dump(manifest))
    refused = paretune("run", path, "-w", tmp_path / "run", cwd=folder, code=2)
    assert "broken.keras" in refused.stderr
