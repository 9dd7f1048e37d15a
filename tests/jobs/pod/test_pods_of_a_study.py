"""The containers of a study's pods as processes, over a store in a folder. TensorFlow only trains."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_contract.failure import Reason
from paretune_contract.stages import BenchmarkResult, CompressResult, EvaluateResult
from paretune_contract.termination import IntakeReport
from support.made_tflite import image_classifier
from support.pods import Cluster

INT8 = {"quantization": {"scheme": "int8"}}
SAMPLES = 64


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A store with the intake of a small model, its baseline, and the plain int8 candidate."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    sources(made.claim)
    return made


def sources(folder: Path) -> None:
    model = image_classifier(folder / "float.tflite")
    interpreter = open_interpreter(model, threads=1)
    for seed, split in enumerate(("train", "calibration", "evaluation", "test")):
        x = np.random.default_rng(seed).normal(0, 1, (SAMPLES, 8, 8, 4)).astype(np.float32)
        y = np.array([run_interpreter(interpreter, [s[None]])[0].argmax() for s in x], np.int64)
        if split == "test":
            (folder / split).mkdir()
            np.save(folder / split / "x.npy", x)
            np.save(folder / split / "y.npy", y)
        else:
            np.savez(folder / f"{split}.npz", x=x, y=y)


def intake_task(cluster: Cluster, name: str = "intake", model: str = "float.tflite", **more):
    splits = {s: cluster.source(f"{s}.npz") for s in ("train", "calibration", "evaluation")}
    part = {
        "model": cluster.source(model), "dataset": {**splits, "test": cluster.source("test")},
        "metrics": ("accuracy",), "training": {"epochs": 1, "batch_size": 16}, **more,
    }  # fmt: skip
    return cluster.task(name, intake=part)


def compress_task(cluster: Cluster, report: IntakeReport, name: str, settings, **more):
    part = {"settings": settings, "metrics": ("accuracy",), "intake": report.intake, **more}
    return cluster.task(name, compress=part)


@pytest.fixture(scope="module")
def report(cluster: Cluster) -> IntakeReport:
    report = cluster.pod(intake_task(cluster)).all()
    assert isinstance(report, IntakeReport), report
    return report


@pytest.fixture(scope="module")
def baseline(cluster: Cluster, report: IntakeReport) -> CompressResult:
    result = cluster.pod(compress_task(cluster, report, "0000-compress", {})).all()
    assert isinstance(result, CompressResult), result
    return result


@pytest.fixture(scope="module")
def int8(cluster: Cluster, report: IntakeReport, baseline: CompressResult) -> CompressResult:
    assert baseline.artifact
    task = compress_task(cluster, report, "0001-compress", INT8, reference=baseline.artifact.sha256)
    result = cluster.pod(task).all()
    assert isinstance(result, CompressResult), result
    return result


def test_intake_leaves_the_normal_form_in_the_store_and_reports_a_summary(cluster, report) -> None:
    summary = report.summary
    assert summary is not None
    assert summary.data["train"].samples == SAMPLES
    prefix = f"{cluster.study}/intake"
    expected = {f"{prefix}/intake.json", f"{prefix}/model.tflite"}
    for split in ("train", "calibration", "evaluation", "test"):
        expected |= {f"{prefix}/data/{split}/input0.npy", f"{prefix}/data/{split}/labels.npy"}
    assert {n for n in cluster.names() if n.startswith(prefix)} == expected
    document = (cluster.root / prefix / "intake.json").read_bytes()
    assert report.intake == hashlib.sha256(document).hexdigest()
    stored = json.loads(document)
    assert stored["model"]["uri"] == "pvc://models/float.tflite"
    assert stored["data"]["test"]["uri"] == "pvc://models/test"
    assert str(cluster.folder) not in document.decode()
    model = (cluster.root / prefix / "model.tflite").read_bytes()
    assert summary.model.sha256 == hashlib.sha256(model).hexdigest()


def test_the_baseline_is_the_normalized_model_and_reads_the_evaluation_alone(cluster, report) -> None:
    pod = cluster.pod(compress_task(cluster, report, "0000-again", {}))
    shutil.rmtree(cluster.root / "team/steps", ignore_errors=True)
    result = pod.all()
    assert isinstance(result, CompressResult)
    assert result.artifact
    assert result.artifact.sha256 == report.summary.model.sha256
    assert result.metrics["accuracy"].value == 1.0
    assert [path.name for path in (pod.work / "intake/data").iterdir()] == ["evaluation"]


def test_a_candidate_lies_in_the_store_under_its_digest_with_result_and_log(cluster, int8) -> None:
    assert int8.artifact
    name = int8.artifact.path
    assert name == f"{cluster.study}/candidates/{int8.artifact.sha256}.tflite"
    content = (cluster.root / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == int8.artifact.sha256
    assert len(content) == int8.artifact.bytes
    full = json.loads((cluster.root / cluster.study / "results/0001-compress.json").read_text())
    assert full["inspection"]["tensors"]
    assert int8.inspection
    assert not int8.inspection.tensors
    assert int8.metrics["accuracy"].value > 0.8


def test_only_the_data_of_missing_steps_is_fetched_and_known_steps_come_from_the_store(
    cluster, report, int8
) -> None:
    settings = {"quantization": {"scheme": "int8", "granularity": "tensor"}}
    pod = cluster.pod(compress_task(cluster, report, "0002-compress", settings))
    result = pod.all()
    assert {step.name: step.cached for step in result.steps} == {
        "calibrate": True, "quantize": False, "inspect": False, "size": False, "evaluate": False,
    }  # fmt: skip
    assert [path.name for path in (pod.work / "intake/data").iterdir()] == ["evaluation"]


def test_a_candidate_whose_steps_are_all_known_needs_no_data(cluster, report, int8) -> None:
    pod = cluster.pod(compress_task(cluster, report, "0003-compress", INT8))
    result = pod.all()
    assert isinstance(result, CompressResult)
    assert all(step.cached for step in result.steps if step.name != "inspect")
    assert result.artifact == int8.artifact
    assert result.metrics == int8.metrics
    assert not (pod.work / "intake/data").exists()


def test_a_file_above_a_size_limit_is_not_evaluated_and_its_data_not_fetched(cluster, report, int8) -> None:
    limits = {"modelSize": 100.0}
    pod = cluster.pod(compress_task(cluster, report, "0004-compress", INT8, size_limits=limits))
    assert "not evaluated" in pod.all().message
    assert not (pod.work / "intake/data").exists()


def test_a_lost_message_is_answered_from_the_store(cluster, int8, report, baseline) -> None:
    task = compress_task(cluster, report, "0001-compress", INT8, reference=baseline.artifact.sha256)
    pod = cluster.pod(task)
    assert pod.all() == int8
    assert not (pod.work / "request.json").exists()
    again = cluster.pod(intake_task(cluster))
    assert again.all() == report


def test_a_result_whose_candidate_is_gone_is_made_anew(cluster, report) -> None:
    task = compress_task(cluster, report, "0005-compress", {"quantization": {"scheme": "float16"}})
    first = cluster.pod(task).all()
    assert isinstance(first, CompressResult)
    assert first.artifact
    (cluster.root / first.artifact.path).unlink()
    again = cluster.pod(task).all()
    assert isinstance(again, CompressResult)
    assert again.artifact == first.artifact
    assert (cluster.root / first.artifact.path).exists()


def test_the_benchmark_measures_both_files_by_digest(cluster, baseline, int8) -> None:
    part = {
        "candidate": int8.artifact.sha256, "reference": baseline.artifact.sha256, "device": "pi",
        "max_seconds": 0.5,
    }  # fmt: skip
    task = cluster.task("0001-benchmark-pi", benchmark=part)
    result = cluster.pod(task).all()
    assert isinstance(result, BenchmarkResult)
    assert result.metrics["latency/pi"].value > 0
    assert cluster.pod(task).all() == result


def test_the_front_is_evaluated_on_test_once(cluster, report, baseline, int8) -> None:
    part = {
        "candidate": int8.artifact.sha256, "reference": baseline.artifact.sha256,
        "metrics": ("accuracy", "agreement"), "intake": report.intake,
    }  # fmt: skip
    pod = cluster.pod(cluster.task("0001-evaluate", evaluate=part))
    result = pod.all()
    assert isinstance(result, EvaluateResult)
    assert result.evaluation
    assert result.evaluation.split == "test"
    assert result.evaluation.samples == SAMPLES
    again = cluster.pod(cluster.task("0001-evaluate-again", evaluate=part))
    assert again.all().metrics == result.metrics
    assert not (again.work / "intake/data").exists()


def test_settings_that_cannot_work_are_a_result_with_their_reason(cluster, report) -> None:
    settings = {"layers": [{"match": "nowhere", "quantization": {"scheme": "int8"}}]}
    pod = cluster.pod(compress_task(cluster, report, "0006-compress", settings))
    result = pod.all()
    assert result.reason is Reason.LAYER_NOT_FOUND
    assert "nowhere" in result.message
    assert not (pod.work / "intake/data").exists()


def test_damaged_data_in_the_store_is_not_used(cluster, report) -> None:
    path = cluster.root / cluster.study / "intake/data/calibration/input0.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x7f")
    settings = {"quantization": {"scheme": "int16x8"}, "sparsity": {"pattern": "unstructured", "level": 0.5}}
    pod = cluster.pod(compress_task(cluster, report, "0007-compress", settings))
    message = json.loads(pod.run("fetch", code=75))
    path.write_bytes(content)
    assert message["reason"] == "StoreUnavailable"
    assert "data/calibration is damaged" in message["message"]


def test_another_intake_than_the_record_names_is_not_used(cluster, report) -> None:
    part = {"settings": {}, "intake": "0" * 64}
    message = json.loads(cluster.pod(cluster.task("0008-compress", compress=part)).run("fetch", code=75))
    assert "intake.json is damaged" in message["message"]


@pytest.mark.tensorflow
def test_one_trained_network_serves_several_pods_and_tensorflow_runs_in_the_first_alone(
    cluster, report
) -> None:
    sparse = {"sparsity": {"pattern": "unstructured", "level": 0.5}}
    cluster.tensorflow = True
    try:
        first = cluster.pod(compress_task(cluster, report, "0010-compress", sparse))
        assert {s.name: s.cached for s in first.all().steps}["train-file"] is False
    finally:
        cluster.tensorflow = False
    assert {path.name for path in (first.work / "intake/data").iterdir()} == {"train", "evaluation"}
    settings = {**sparse, "quantization": {"scheme": "dynamic"}}
    second = cluster.pod(compress_task(cluster, report, "0011-compress", settings))
    assert {s.name: s.cached for s in second.all().steps}["train-file"] is True
    assert {path.name for path in (second.work / "intake/data").iterdir()} == {"evaluation"}


def test_a_purge_leaves_nothing_of_the_study_and_retain_what_it_names(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    keys = ["a" * 64, "b" * 64, "c" * 64]
    for key in keys:
        for name in (f"team/4f7d/candidates/{key}.tflite", f"team/steps/{key}.tar"):
            (cluster.root / name).parent.mkdir(parents=True, exist_ok=True)
            (cluster.root / name).write_bytes(b"x")
    (cluster.root / "team/4f7d/steps").mkdir()
    (cluster.root / "team/4f7d/steps" / keys[0]).write_bytes(b"1\n")
    (cluster.root / "team/4f7d1/candidates").mkdir(parents=True)
    (cluster.root / "team/4f7d1/candidates" / f"{keys[0]}.tflite").write_bytes(b"x")
    kept = {
        f"team/4f7d1/candidates/{keys[0]}.tflite",
        f"team/steps/{keys[1]}.tar",
        f"team/steps/{keys[2]}.tar",
    }

    task = cluster.task("retain", retain={"candidates": (keys[1],)})
    assert json.loads(cluster.pod(task).run("retain"))["message"] == "removed 2 candidates, kept 1"
    assert f"team/4f7d/candidates/{keys[1]}.tflite" in cluster.names()
    assert f"team/4f7d/candidates/{keys[0]}.tflite" not in cluster.names()

    message = json.loads(cluster.pod(cluster.task("purge", purge={})).run("purge"))["message"]
    assert message == "removed 2 objects of the study and 1 cached steps"
    assert cluster.names() == kept
    assert json.loads(cluster.pod(cluster.task("purge", purge={})).run("purge"))["message"].startswith(
        "removed 0"
    )


def test_a_purge_of_more_than_one_study_is_refused(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, study="team")
    (cluster.root / "team").mkdir()
    (cluster.root / "team/file").write_bytes(b"x")
    message = json.loads(cluster.pod(cluster.task("purge", purge={})).run("purge", code=65))
    assert "NAMESPACE/UID" in message["message"]
    assert cluster.names() == {"team/file"}


def test_the_steps_that_a_study_wrote_are_marked_for_its_purge(cluster, int8) -> None:
    steps = {
        n.removeprefix("team/steps/").removesuffix(".tar")
        for n in cluster.names()
        if "/steps/" in n and n.endswith(".tar")
    }
    marks = {p.name for p in (cluster.root / cluster.study / "steps").iterdir()}
    assert steps
    assert steps <= marks


def test_nothing_is_written_beside_the_work_folder(cluster, report) -> None:
    """The root file system of a pod is read-only; HOME may be unset."""
    assert not os.environ.get("PARETUNE_WORK")
    listed = {path.name for path in (cluster.folder / "pod1").iterdir()}
    assert listed == {"work", "upload.message"}
