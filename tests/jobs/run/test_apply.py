"""Trials of a real study applied again: real processes, LiteRT, and TensorFlow where settings fine-tune."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from paretune.api import OptimizationTrial
from paretune.local.capacity import cores_here
from paretune.local.workdir import WorkDirectory
from paretune_compress import flatbuffer as fb
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_store.files import sha256_file
from support.made_requests import Workplace
from support.made_tflite import image_classifier

pytestmark = pytest.mark.tensorflow
STUDY = {
    "apiVersion": "paretune.dev/v1alpha1",
    "kind": "OptimizationStudy",
    "metadata": {"name": "small"},
    "spec": {
        "model": {"uri": "float.tflite"},
        "dataset": {part: {"uri": f"{part}.npz"} for part in ("train", "calibration", "evaluation")},
        "training": {"epochs": 1},
        "objectives": [{"metric": "accuracy"}, {"metric": "downloadSize"}],
        "space": {
            "quantization": {"schemes": ["none", "int8"], "granularity": ["channel"]},
            "sparsity": {"patterns": ["none", "unstructured"], "max": 0.5},
            "clustering": {"stages": ["none"]},
        },
        "search": {"seed": 0},
        "budget": {"trials": 4, "parallelism": 2},
        "benchmark": {"maxDuration": 1},
        "artifacts": {"retain": "all"},
    },
}


def paretune(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paretune.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    return done


@dataclass(frozen=True)
class Finished:
    """A finished study of a small classifier, in the folder of its model and data."""

    folder: Path
    work: WorkDirectory

    def trial(self, scheme: str, sparse: bool) -> OptimizationTrial:
        for trial in self.work.read_trials():
            settings = trial.settings
            if (settings.quantization.scheme.value, settings.sparsity.level > 0) == (scheme, sparse):
                return trial
        raise AssertionError(f"the study has no trial with {scheme}, sparse: {sparse}")

    @property
    def int8(self) -> OptimizationTrial:
        return self.trial("int8", sparse=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("apply")
    Workplace(folder, train=True)
    shutil.rmtree(folder / "cache")
    image_classifier(folder / "other.tflite", seed=5)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    paretune("run", "study.yaml", "-w", "run", "--no-mlflow", cwd=folder)
    shutil.rmtree(folder / "run" / "cache")  # nothing that was made is left to be found
    return Finished(folder, WorkDirectory(folder / "run"))


def sha256(trial: OptimizationTrial) -> str:
    assert trial.status.artifact is not None
    return trial.status.artifact.sha256


def weights(file: Path) -> dict[str, tuple[str, Any]]:
    """Type and real values of each constant with a name that ends in /w."""
    model = fb.read(file)
    found = {}
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        name, values = fb.tensor_name(tensor), fb.constant(model, index)
        if name.endswith("/w") and values is not None:
            scale = np.ones(1) if tensor.quantization is None else np.asarray(tensor.quantization.scale)
            axis = 0 if tensor.quantization is None else tensor.quantization.quantizedDimension
            shape = [1] * values.ndim
            if len(scale) > 1:
                shape[axis] = len(scale)
            found[name] = fb.type_name(tensor), values.astype(np.float64) * scale.reshape(shape)
    return found


# --- on its own model -------------------------------------------------------------------------------------


def test_a_quantized_trial_comes_out_bit_for_bit(study: Finished, tmp_path: Path) -> None:
    trial = study.int8
    said = paretune(
        "apply", "--from", study.work.root, "--trial", trial.number, "--expect-same", cwd=tmp_path
    )
    (file,) = tmp_path.iterdir()
    assert file.name == f"float-trial{trial.number}.tflite"
    assert sha256_file(file) == sha256(trial)
    assert f"The same bytes as trial {trial.number}." in said.stdout
    size, accuracy = trial.status.metrics["downloadSize"], trial.status.metrics["accuracy"]
    assert f"{size.value:,.0f} B" in said.stdout
    assert f"{accuracy.value:.2%}" in said.stdout


def test_a_fine_tuned_trial_comes_out_bit_for_bit(study: Finished, tmp_path: Path) -> None:
    trial = study.trial("int8", sparse=True)
    said = paretune(
        "apply", "--from", study.work.front.parent, "--trial", trial.number, "--json", cwd=tmp_path
    )
    result = json.loads(said.stdout)
    assert result["sameModel"] is True
    assert result["sameBytes"] is True, result["differences"]
    assert result["sha256"] == sha256(trial) == sha256_file(tmp_path / result["file"])
    assert result["metrics"]["accuracy"] == trial.status.metrics["accuracy"].model_dump(mode="json")
    baseline = study.work.read_trials()[0].status.metrics
    assert result["floatModel"]["accuracy"] == baseline["accuracy"].model_dump(mode="json")
    assert result["madeWith"]["training"]["epochs"] == 1
    assert result["madeWith"]["threads"] == max(1, len(cores_here()) // 2)


def test_a_front_alone_makes_the_same_file_of_model_and_data_that_it_is_given(
    study: Finished, tmp_path: Path
) -> None:
    shutil.copyfile(study.work.front, tmp_path / "front.json")
    trial = study.trial("int8", sparse=True)
    front = json.loads(study.work.front.read_text())
    if trial.number not in {m["trial"] for m in front["front"]}:
        trial = study.int8
    given = [f"--{part}={study.folder / part}.npz" for part in ("train", "calibration")]
    said = paretune(
        "apply", "--from", "front.json", "--trial", trial.number, "--model", study.folder / "float.tflite",
        *given, "-o", "again.tflite", "--expect-same", cwd=tmp_path,
    )  # fmt: skip
    assert sha256_file(tmp_path / "again.tflite") == sha256(trial)
    assert "accuracy" not in said.stdout, "there were no data to evaluate on"


def test_what_a_dry_run_prints_makes_the_same_file(study: Finished, tmp_path: Path) -> None:
    trial = study.int8
    printed = paretune("apply", "--from", study.work.root, "--trial", trial.number, "--dry-run", cwd=tmp_path)
    (tmp_path / "recipe.yaml").write_text(printed.stdout)
    paretune(
        "apply", "--from", "recipe.yaml", "--study", study.folder / "study.yaml", "-o", "again.tflite",
        "--expect-same", cwd=tmp_path,
    )  # fmt: skip
    assert sha256_file(tmp_path / "again.tflite") == sha256(trial)


def test_the_baseline_is_the_float_model_itself(study: Finished, tmp_path: Path) -> None:
    paretune("apply", "--from", study.work.root, "--trial", 0, "-o", "m.tflite", cwd=tmp_path)
    assert (tmp_path / "m.tflite").read_bytes() == (study.folder / "float.tflite").read_bytes()


def test_an_exported_trial_can_be_applied(study: Finished, tmp_path: Path) -> None:
    trial = study.int8
    paretune("export", trial.number, "-w", study.work.root, "-o", "exported", cwd=tmp_path)
    said = paretune(
        "apply", "--from", "exported", "--model", study.folder / "float.tflite",
        "--calibration", study.folder / "calibration.npz", cwd=tmp_path,
    )  # fmt: skip
    assert "The same bytes" in said.stdout
    file = tmp_path / f"float-trial{trial.number}.tflite"
    assert file.read_bytes() == (tmp_path / "exported" / "model.tflite").read_bytes()


def test_done_steps_are_taken_from_a_cache_that_is_named(study: Finished, tmp_path: Path) -> None:
    command = ("apply", "--from", study.work.root, "--trial", study.int8.number, "--cache", "c", "--force")
    assert "from the cache" not in paretune(*command, cwd=tmp_path).stdout
    assert "from the cache: calibrate, quantize" in paretune(*command, cwd=tmp_path).stdout


# --- other bytes ------------------------------------------------------------------------------------------


def test_other_data_are_named_as_the_cause_of_other_bytes(study: Finished, tmp_path: Path) -> None:
    trial = study.int8
    command = (
        "apply", "--from", study.work.root, "--trial", trial.number, "--no-evaluation",
        "--calibration", study.folder / "train.npz", "-o", "m.tflite",
    )  # fmt: skip
    warned = paretune(*command, cwd=tmp_path).stderr.splitlines()[-1]
    assert warned.startswith(f"warning: not the bytes of trial {trial.number}: sha256 ")
    assert warned.endswith(": other calibration data")
    refused = paretune(*command, "--force", "--expect-same", cwd=tmp_path, code=1)
    assert "other calibration data" in refused.stderr
    assert sha256_file(tmp_path / "m.tflite") != sha256(trial)


def test_other_versions_are_named_as_the_cause_of_other_bytes(study: Finished, tmp_path: Path) -> None:
    front = json.loads(study.work.front.read_text())
    member = next(m for m in front["front"] if m["settings"] == {"quantization": {"scheme": "int8"}})
    member["artifact"]["sha256"] = "0" * 64
    front["study"]["madeWith"]["versions"] |= {"litert-quantizer": "0.1.0", "optuna": "1.0.0"}
    (tmp_path / "front.json").write_text(json.dumps(front))
    warned = paretune(
        "apply", "--from", "front.json", "--trial", member["trial"], "--study", study.folder / "study.yaml",
        "--no-evaluation", cwd=tmp_path,
    ).stderr  # fmt: skip
    assert "litert-quantizer" in warned
    assert "(was 0.1.0)" in warned
    assert "optuna" not in warned, "the sampler makes no file"


# --- on another model -------------------------------------------------------------------------------------


def test_on_another_model_the_file_is_that_model_quantized(study: Finished, tmp_path: Path) -> None:
    trial, other = study.int8, study.folder / "other.tflite"
    said = paretune(
        "apply", "--from", study.work.root, "--trial", trial.number, "--model", other, cwd=tmp_path
    )
    assert "Another model than that of" in said.stdout
    file = tmp_path / f"other-trial{trial.number}.tflite"
    made, own = weights(file), weights(other)
    assert set(made) == set(own)
    for name, (kind, values) in made.items():
        assert kind == "INT8"
        largest = np.abs(own[name][1]).max()
        np.testing.assert_allclose(values, own[name][1], atol=largest / 127)
    x = np.random.default_rng(9).normal(0, 1, (32, 1, 8, 8, 4)).astype(np.float32)
    answers = []
    for path in (file, other):
        interpreter = open_interpreter(path, threads=1)
        answers.append([run_interpreter(interpreter, [sample])[0].argmax() for sample in x])
    assert np.mean(np.equal(*answers)) > 0.9


def test_the_same_bytes_are_not_to_be_expected_of_another_model(study: Finished, tmp_path: Path) -> None:
    refused = paretune(
        "apply", "--from", study.work.root, "--trial", study.int8.number, "--expect-same",
        "--model", study.folder / "other.tflite", cwd=tmp_path, code=2,
    )  # fmt: skip
    assert "is not the model of trial" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_a_layer_that_the_other_model_does_not_have_is_named_in_one_line(
    study: Finished, tmp_path: Path
) -> None:
    settings = {"layers": [{"match": "^tail", "quantization": {"scheme": "dynamic"}}]}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"settings": settings}))
    refused = paretune(
        "apply", "--from", "r.yaml", "--model", study.folder / "other.tflite", cwd=tmp_path, code=2
    )
    assert refused.stderr.splitlines() == [
        "Reading the model",
        "settings.layers[0].match: '^tail' matches no layer; there are 'stem', 'depthwise', 'pointwise', "
        "'hidden', ...",
    ]


def test_settings_that_leave_no_trace_are_refused(study: Finished, tmp_path: Path) -> None:
    settings = {"layers": [{"match": "depthwise", "clustering": {"stage": "int8", "clusters": 4}}]}
    settings["quantization"] = {"scheme": "dynamic"}  # type: ignore[assignment]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"settings": settings}))
    refused = paretune(
        "apply", "--from", "r.yaml", "--model", study.folder / "other.tflite", cwd=tmp_path, code=2
    )
    assert "no layer can be clustered" in refused.stderr


def test_a_model_that_cannot_be_read_ends_with_2_and_its_name(study: Finished, tmp_path: Path) -> None:
    (tmp_path / "broken.keras").write_bytes(os.urandom(2000))
    refused = paretune(
        "apply", "--from", study.work.root, "--trial", 0, "--model", "broken.keras", cwd=tmp_path, code=2
    )
    assert "broken.keras" in refused.stderr


def test_data_that_do_not_fit_are_named_with_the_option_that_gives_others(
    study: Finished, tmp_path: Path
) -> None:
    np.savez(tmp_path / "wide.npz", x=np.zeros((4, 9, 9, 4), np.float32), y=np.zeros(4, np.int64))
    command = ("apply", "--from", study.work.root, "--trial", study.int8.number)
    refused = paretune(*command, "--evaluation", "wide.npz", cwd=tmp_path, code=2)
    assert "9, 9, 4" in refused.stderr
    assert "--no-evaluation" in refused.stderr
    refused = paretune(*command, "--calibration", "wide.npz", cwd=tmp_path, code=2)
    assert "--calibration FILE gives other calibration data" in refused.stderr


# --- stopping ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_ends_with_130_and_leaves_nothing_behind(
    study: Finished, tmp_path: Path, number: signal.Signals
) -> None:
    scratch, here = tmp_path / "scratch", tmp_path / "here"
    scratch.mkdir()
    here.mkdir()
    command = [sys.executable, "-m", "paretune.cli", "apply", "--from", str(study.work.root)]
    command += ["--trial", str(study.trial("int8", sparse=True).number)]
    process = subprocess.Popen(
        command, cwd=here, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(scratch.glob("paretune-apply-*/logs/compress.log")):
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 130
    assert process.stderr is not None
    assert "Interrupted." in process.stderr.read()
    assert not list(here.iterdir())
    assert not list(scratch.glob("paretune-apply-*"))
