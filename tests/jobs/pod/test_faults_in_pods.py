"""What a pod says when model, data, store or the stage itself are not what they should be."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paretune_contract.failure import Reason
from paretune_contract.stages import Artifact, BenchmarkResult, CompressResult, Result, Step
from paretune_contract.task import Source, StoreKind
from support.made_tflite import image_classifier
from support.pods import Cluster, Pod

SECRET = "the store's password"  # noqa: S105 - it is none
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    made = Cluster(tmp_path)
    (tmp_path / "secrets/store").mkdir(parents=True)
    (tmp_path / "secrets/store/PASSWORD").write_text(SECRET)
    return made


def intake(cluster: Cluster, model: str = "float.tflite", data: str = "evaluation.npz") -> Pod:
    part = {"model": cluster.source(model), "dataset": {"evaluation": cluster.source(data)}}
    return cluster.pod(cluster.task("intake", intake=part))


def compress(cluster: Cluster, **environment: str) -> Pod:
    pod = cluster.pod(cluster.task("0003-compress", compress={"settings": {}}), **environment)
    pod.work.mkdir(parents=True)
    return pod


def benchmark(cluster: Cluster, **environment: str) -> Pod:
    part = {"candidate": "a" * 64, "reference": "a" * 64, "device": "pi"}
    return cluster.pod(cluster.task("0003-benchmark-pi", benchmark=part), **environment)


def stored(cluster: Cluster) -> str:
    """All that is in the store, as text."""
    return "".join((cluster.root / name).read_text(errors="replace") for name in cluster.names())


# --- what the owner of model, data or store can cure -------------------------------------------------------


def test_a_model_that_is_not_there_is_named_by_its_uri(cluster) -> None:
    message = json.loads(intake(cluster).run("fetch", code=65))
    assert message["reason"] == "ModelUnreadable"
    assert "pvc://models/float.tflite: no such file" in message["message"]


def test_data_that_is_not_there_is_named_by_its_field_and_uri(cluster) -> None:
    image_classifier(cluster.claim / "float.tflite")
    message = json.loads(intake(cluster).run("fetch", code=65))
    assert message["reason"] == "DataUnreadable"
    assert message["message"].startswith("dataset.evaluation: pvc://models/evaluation.npz: no such file")


def test_a_path_is_refused_with_what_to_use_instead(cluster) -> None:
    for uri in ("/etc/hostname", "file:///etc/hostname"):
        part = {"model": Source(uri=uri), "dataset": {}}
        message = json.loads(cluster.pod(cluster.task("intake", intake=part)).run("fetch", code=65))
        assert message["reason"] == "ModelUnreadable"
        assert f"{uri}: a path is read on one machine only; use s3://" in message["message"]


def test_a_link_out_of_the_claim_is_refused(cluster) -> None:
    (cluster.claim / "float.tflite").symlink_to(cluster.folder / "secrets/store/PASSWORD")
    message = json.loads(intake(cluster).run("fetch", code=65))
    assert "out of the claim" in message["message"]
    assert SECRET not in str(message)


def test_a_secret_that_is_not_mounted_is_named(cluster) -> None:
    part = {"model": Source(uri="s3://bucket/model.keras", credentials="paretune-s3"), "dataset": {}}
    message = json.loads(cluster.pod(cluster.task("intake", intake=part)).run("fetch", code=65))
    assert message["reason"] == "ModelUnreadable"
    assert "s3://bucket/model.keras" in message["message"]
    assert "paretune-s3" in message["message"]


def test_a_broken_model_is_a_result_that_names_the_users_uri_and_is_not_kept(cluster) -> None:
    (cluster.claim / "broken.keras").write_bytes(b"PK\x03\x04" + bytes(range(200)))
    np.savez(cluster.claim / "evaluation.npz", x=np.zeros((4, 8, 8, 4), np.float32))
    result = intake(cluster, "broken.keras").all()
    assert result.reason is Reason.MODEL_UNREADABLE
    assert result.message.startswith("pvc://models/broken.keras: ")
    assert str(cluster.folder) not in result.message
    assert not cluster.names()  # the owner may put another file there


def test_data_of_another_shape_names_field_uri_and_shapes(cluster) -> None:
    image_classifier(cluster.claim / "float.tflite")
    np.savez(cluster.claim / "evaluation.npz", x=np.zeros((4, 9, 9, 4), np.float32))
    result = intake(cluster).all()
    assert result.reason is Reason.DATA_MISMATCH
    assert "dataset.evaluation" in result.message
    assert "pvc://models/evaluation.npz" in result.message
    assert "9, 9, 4" in result.message


def test_a_candidate_that_is_gone_from_the_store_is_named(cluster) -> None:
    message = json.loads(benchmark(cluster).run("fetch", code=65))
    assert "a" * 64 + ".tflite" in message["message"]
    assert "removed from the store" in message["message"]


def test_a_task_that_is_not_understood_or_missing_is_said(cluster) -> None:
    pod = benchmark(cluster, PARETUNE_TASK="{}")
    message = json.loads(pod.run("upload", code=65))
    assert message["reason"] == "Internal"
    assert "PARETUNE_TASK is not understood" in message["message"]
    wrong = cluster.pod(cluster.task("x", retain={}))
    assert "the task is one of retain" in json.loads(wrong.run("purge", code=65))["message"]


def test_a_time_that_is_none_is_named_with_its_variable(cluster) -> None:
    task = cluster.task("retain", retain={})
    message = json.loads(cluster.pod(task, PARETUNE_UPLOAD_SECONDS="30m").run("retain", code=65))
    assert "PARETUNE_UPLOAD_SECONDS: '30m'" in message["message"]


# --- a store that does not answer --------------------------------------------------------------------------


def test_a_store_that_does_not_answer_is_worth_another_attempt(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, kind=StoreKind.MLFLOW, uri=NOWHERE)
    message = json.loads(benchmark(cluster).run("fetch", code=75))
    assert message["reason"] == "StoreUnavailable"
    assert NOWHERE in message["message"]


def test_an_upload_keeps_trying_and_then_leaves_it_to_another_attempt(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, kind=StoreKind.MLFLOW, uri=NOWHERE)
    pod = benchmark(cluster, PARETUNE_UPLOAD_SECONDS="9")
    pod.work.mkdir(parents=True)
    (pod.work / "result.json").write_text("{}")
    message = json.loads(pod.run("upload", code=75))
    assert message["reason"] == "StoreUnavailable"
    assert "trying again" in pod.logs["upload"]


def test_a_stage_that_had_no_place_to_work_leaves_no_result_in_the_store(cluster) -> None:
    pod = benchmark(cluster)
    pod.work.mkdir(parents=True)
    result = Result(reason=Reason.STORE_UNAVAILABLE, message="no space left")
    (pod.work / "result.json").write_text(result.model_dump_json(by_alias=True))
    assert json.loads(pod.run("upload", code=75))["message"] == "no space left"
    assert not cluster.names()


# --- a stage that dies or lies -----------------------------------------------------------------------------


def sabotaged(cluster: Cluster, code: str) -> str:
    """A PYTHONPATH on which the stage's own process does something else."""
    folder = cluster.folder / "sabotage"
    folder.mkdir()
    condition = "if sys.orig_argv[-2:] == ['-m', 'paretune_compress']:"
    lines = ["import os, signal, sys, time", condition, *(f"    {line}" for line in code.splitlines())]
    (folder / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    return str(folder)


def performed(cluster: Cluster, code: str) -> Pod:
    pod = compress(cluster, PYTHONPATH=sabotaged(cluster, code))
    (pod.work / "request.json").write_text("{}")
    pod.run("stage")
    return pod


def test_a_stage_that_is_killed_is_a_result_and_its_last_lines_are_kept(cluster) -> None:
    lines = "for n in range(500): print('line', n, file=sys.stderr, flush=True)"
    code = f"{lines}\nos.kill(os.getpid(), signal.SIGKILL)"
    pod = performed(cluster, code)
    assert json.loads(pod.run("upload"))["reason"] == "OutOfMemory"
    assert "line 499" in pod.logs["stage"]
    lines = (cluster.root / cluster.study / "logs/0003-compress.log").read_text().splitlines()
    assert lines == [f"line {n}" for n in range(300, 500)]
    assert f"{cluster.study}/results/0003-compress.json" in cluster.names()


def test_a_stage_that_crashes_is_a_result_with_the_signal(cluster) -> None:
    pod = performed(cluster, "os.kill(os.getpid(), signal.SIGSEGV)")
    message = json.loads(pod.run("upload"))
    assert message["reason"] == "Crashed"
    assert "SIGSEGV" in message["message"]


@pytest.mark.parametrize(
    "answer", ["nonsense", '{"result": 7}', '{"result": {"metrics": {"a": {"value": 1}}}}']
)
def test_an_answer_that_is_none_is_a_crash(cluster, answer) -> None:
    pod = performed(cluster, f"print({answer!r}, flush=True)\nos._exit(0)")
    assert json.loads(pod.run("upload"))["reason"] == "Crashed"


def test_an_answer_that_is_no_unicode_is_understood_all_the_same(cluster) -> None:
    answer = '{"result": {"reason": "StepFailed", "message": "file \\\\udc80"}}'
    pod = performed(cluster, f"print('{answer}', flush=True)\nos._exit(0)")
    assert json.loads(pod.run("upload"))["message"] == "file ?"


def test_the_stage_has_a_home_few_threads_and_no_task(cluster) -> None:
    code = "print(sorted(os.environ.items()), file=sys.stderr, flush=True)\nos._exit(3)"
    output = performed(cluster, code).logs["stage"]
    assert "('HOME', '/" in output
    assert "('OMP_NUM_THREADS', '1')" in output
    assert "PARETUNE_TASK" not in output
    assert "exit code 3" in output


def test_a_stage_that_is_to_end_takes_its_process_along(cluster) -> None:
    path = sabotaged(cluster, "print('began', os.getpid(), file=sys.stderr, flush=True)\ntime.sleep(60)")
    pod = compress(cluster, PYTHONPATH=path)
    (pod.work / "request.json").write_text("{}")
    environment = {
        **os.environ, "PYTHONPATH": path, "PARETUNE_WORK": str(pod.work),
        "PARETUNE_TASK": pod.task.model_dump_json(by_alias=True),
    }  # fmt: skip
    command = [sys.executable, "-m", "paretune_compress.pod", "stage"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    with process.stderr:
        child = int(process.stderr.readline().split()[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert not (pod.work / "result.json").exists()
    until = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}/stat").exists()


def leave(pod: Pod, artifact: Artifact) -> None:
    result = CompressResult(artifact=artifact)
    (pod.work / "result.json").write_text(result.model_dump_json(by_alias=True))


def of(path: Path, content: bytes = SECRET.encode()) -> Artifact:
    return Artifact(path=str(path), sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def test_a_candidate_elsewhere_than_among_the_candidates_is_not_uploaded(cluster) -> None:
    secret = cluster.folder / "secrets/store/PASSWORD"
    sha256 = of(secret).sha256
    pod = compress(cluster)
    (pod.work / "candidates").mkdir()
    (pod.work / "candidates" / f"{sha256}.tflite").symlink_to(secret)
    for path in (
        secret,
        pod.work / "candidates" / f"{sha256}.tflite",
        pod.work / "candidates" / "../../../secrets/store/PASSWORD",
        pod.work / "result.json",
    ):
        leave(pod, of(path))
        message = json.loads(pod.run("upload"))
        assert message["reason"] == "Crashed"
        assert "does not match its files" in message["message"]
    assert SECRET not in stored(cluster)
    assert not any("candidates" in name for name in cluster.names())


def test_a_folder_of_candidates_that_is_a_link_is_not_followed(cluster) -> None:
    secret = cluster.folder / "secrets/store/PASSWORD"
    pod = compress(cluster)
    (pod.work / "candidates").symlink_to(secret.parent)
    leave(pod, of(pod.work / "candidates/PASSWORD"))
    assert json.loads(pod.run("upload"))["reason"] == "Crashed"
    assert SECRET not in stored(cluster)


def test_a_candidate_of_another_digest_is_not_uploaded(cluster) -> None:
    pod = compress(cluster)
    (pod.work / "candidates").mkdir()
    path = pod.work / "candidates/x.tflite"
    path.write_bytes(b"other")
    leave(pod, of(path, b"claimed"))
    assert "sha256" in json.loads(pod.run("upload"))["message"]
    assert not any("candidates" in name for name in cluster.names())


def test_links_in_place_of_result_log_and_steps_lead_nowhere(cluster) -> None:
    secrets = cluster.folder / "secrets/store"
    (secrets / "entry.json").write_text(
        json.dumps({"key": "b" * 64, "files": {"PASSWORD": of(secrets).sha256}})
    )
    pod = compress(cluster)
    (pod.work / "result.json").symlink_to(secrets / "PASSWORD")
    (pod.work / "stage.log").symlink_to(secrets / "PASSWORD")
    (pod.work / "cache/steps/bb").mkdir(parents=True)
    (pod.work / "cache/steps/bb" / ("b" * 64)).symlink_to(secrets)
    inner = pod.work / "cache/steps/cc" / ("c" * 64)
    inner.mkdir(parents=True)
    (inner / "entry.json").symlink_to(secrets / "entry.json")
    message = json.loads(pod.run("upload"))
    assert message["reason"] == "Crashed"
    assert "link" in message["message"]
    assert cluster.names() == {f"{cluster.study}/results/0003-compress.json"}
    assert SECRET not in stored(cluster)


def test_a_result_of_many_metrics_does_not_burst_the_message(cluster) -> None:
    pod = benchmark(cluster)
    pod.work.mkdir(parents=True)
    numbers = {f"metric-{n}" + "x" * 60: {"value": 1 / 3, "low": 1 / 7, "high": 0.5} for n in range(128)}
    result = BenchmarkResult.model_validate(
        {"metrics": numbers, "message": "\x01" * 5000, "steps": [Step(name="rounds", seconds=1)] * 100}
    )
    (pod.work / "result.json").write_text(result.model_dump_json(by_alias=True))
    message = json.loads(pod.run("upload"))
    assert message["reason"] == "Internal"
    assert "does not fit" in message["message"]
