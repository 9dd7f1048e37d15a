"""The command line: sentences and exit codes that people and scripts can rely on."""

import json
import sys
from pathlib import Path

import pytest
from paretune import cli
from paretune.local.workdir import WorkDirectory
from paretune_codec import unpack
from support.made_int8 import int8_network
from support.simulated import SimulatedStages, simulated_engine, simulated_intake, simulated_study

VALID = """
apiVersion: paretune.dev/v1alpha1
kind: OptimizationStudy
metadata: {name: small}
spec:
  model: {uri: https://models/small.keras}
  dataset: {evaluation: {uri: https://data/eval.npz}}
  objectives: [{metric: accuracy}, {metric: downloadSize}]
"""


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["paretune", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.fixture
def work(tmp_path: Path) -> WorkDirectory:
    """A finished study with simulated stages."""
    study = simulated_study(12)
    engine = simulated_engine(tmp_path / "run", SimulatedStages(), study)
    work = WorkDirectory(tmp_path / "run")
    engine.run()
    document = study.model_dump(mode="json", by_alias=True, exclude_unset=True)
    document |= {"apiVersion": study.api_version, "kind": study.kind}
    work.manifest.write_text(json.dumps(document))
    intake = {"result": simulated_intake(work.root).model_dump(mode="json", by_alias=True)}
    (work.root / "intake.json").write_text(json.dumps(intake))
    return work


def test_a_valid_manifest_ends_with_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study.yaml").write_text(VALID)
    assert run(monkeypatch, "validate", tmp_path / "study.yaml") == 0


def test_every_fault_is_a_line_and_the_exit_code_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.yaml").write_text(
        VALID.replace("accuracy", "acuracy").replace("name: small", "name: S")
    )
    assert run(monkeypatch, "validate", tmp_path / "study.yaml") == 2
    lines = capsys.readouterr().err.splitlines()
    assert any("metadata.name" in line for line in lines)
    assert any("spec.objectives[0].metric" in line and "accuracy" in line for line in lines)


def test_faults_can_be_read_by_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.yaml").write_text(VALID.replace("accuracy", "acuracy"))
    assert run(monkeypatch, "validate", "--json", tmp_path / "study.yaml") == 2
    (fault,) = json.loads(capsys.readouterr().out)
    assert fault["path"] == "spec.objectives[0].metric"


def test_a_missing_file_ends_with_2_and_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run", "nowhere.yaml") == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_a_folder_without_a_study_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "explain", "1", "-w", tmp_path) == 2
    assert "holds no study" in capsys.readouterr().err


def test_a_trial_that_is_not_there_is_refused_with_those_that_are(
    work: WorkDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "explain", "99", "-w", work.root) == 2
    assert "trials 0 to 11" in capsys.readouterr().err
    assert run(monkeypatch, "explain", "fastest", "-w", work.root) == 2
    assert "knee" in capsys.readouterr().err


def test_a_trial_is_found_by_number_and_by_alias(
    work: WorkDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "explain", "knee", "-w", work.root, "--json") == 0
    knee = json.loads(capsys.readouterr().out)["spec"]["number"]
    assert run(monkeypatch, "explain", f"simulated-{knee:04d}", "-w", work.root) == 0
    assert f"Trial {knee}" in capsys.readouterr().out


def test_replay_ends_with_1_at_the_first_difference(
    work: WorkDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "replay", work.root) == 0
    assert "12 suggestions recomputed, all equal" in capsys.readouterr().out
    trials = work.read_trials()
    spec = trials[11].spec.model_copy(update={"settings": trials[5].settings})
    work.write_trial(trials[11].model_copy(update={"spec": spec}))
    assert run(monkeypatch, "replay", work.root) == 1
    assert "trial 11" in capsys.readouterr().err


def test_a_damaged_record_is_named_and_ends_with_2(
    work: WorkDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (work.trials_folder / "0003.yaml").write_text("{")
    assert run(monkeypatch, "replay", work.root) == 2
    assert "0003.yaml" in capsys.readouterr().err


def test_gc_keeps_the_front_and_the_baseline(work: WorkDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    front = json.loads(work.front.read_text())
    kept = {m["artifact"]["sha256"] for m in [front["baseline"], *front["front"]]}
    assert run(monkeypatch, "gc", "-w", work.root) == 0
    assert {file.stem for file in work.candidates.iterdir()} == kept


def test_a_size_that_is_none_is_refused(
    work: WorkDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "gc", "-w", work.root, "--cache-size", "much") == 2
    assert "'much' is not a size" in capsys.readouterr().err


def test_export_of_a_cleaned_up_model_says_how_to_keep_it(
    work: WorkDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run(monkeypatch, "gc", "-w", work.root)
    gone = next(
        t
        for t in work.read_trials()
        if t.status.artifact and not (work.root / t.status.artifact.uri).exists()
    )
    assert run(monkeypatch, "export", gone.number, "-w", work.root, "-o", tmp_path / "out") == 2
    assert "retain: all" in capsys.readouterr().err


def test_an_exported_container_holds_the_model(
    work: WorkDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, "export", 0, "-w", work.root, "-o", out) == 0
    assert not (out / "model.ptz").exists()
    assert "model.ptz" not in (out / "README.md").read_text()
    assert run(monkeypatch, "export", 0, "-w", work.root, "-o", out, "--ptz") == 0
    assert "model.ptz" in capsys.readouterr().out.splitlines()[-1]
    assert "paretune unpack model.ptz" in (out / "README.md").read_text()
    assert unpack((out / "model.ptz").read_bytes()) == (out / "model.tflite").read_bytes()


@pytest.mark.parametrize(
    "command", ["init", "validate", "plan", "run", "report", "explain", "export", "apply", "replay", "gc"]
)
def test_every_command_has_help_and_what_it_prints_for_machines(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, command, "--help") == 0
    text = capsys.readouterr().out
    assert "Usage: " in text
    if command in ("validate", "plan", "run", "explain", "apply", "replay", "gc"):
        assert "--json" in text


# --- pack and unpack --------------------------------------------------------------------------------------


def test_a_packed_model_comes_back_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(int8_network())
    assert run(monkeypatch, "pack", model) == 0
    packed = tmp_path / "model.ptz"
    assert f"{packed.stat().st_size:,} bytes" in capsys.readouterr().out
    assert packed.stat().st_size < model.stat().st_size
    assert run(monkeypatch, "unpack", packed, "-o", tmp_path / "again.tflite") == 0
    assert (tmp_path / "again.tflite").read_bytes() == model.read_bytes()


def test_packing_overwrites_nothing_unless_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, packed = tmp_path / "model.tflite", tmp_path / "model.ptz"
    model.write_bytes(int8_network())
    packed.write_text("mine")
    assert run(monkeypatch, "pack", model) == 2
    assert packed.read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    assert run(monkeypatch, "pack", model, "--force") == 0
    assert run(monkeypatch, "unpack", packed, "-o", tmp_path / "no" / "m.tflite") == 2
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "content", "words"),
    [
        ("pack", b"PK\x03\x04zipped", "not a .tflite file"),
        ("pack", b"", "not a .tflite file"),
        ("unpack", b"PK\x03\x04zipped", "not a .ptz container"),
        ("unpack", b"PTZ\x01\x02", "truncated"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    content: bytes,
    words: str,
) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(content)
    assert run(monkeypatch, command, file) == 2
    error = capsys.readouterr().err
    assert str(file) in error
    assert words in error
    assert list(tmp_path.iterdir()) == [file], "nothing is left behind"
