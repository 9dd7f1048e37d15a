"""`paretune apply` up to where stages would run: what is missing, what is amiss, and what would be done."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from paretune import cli
from paretune.local import workers
from paretune.local.workdir import WorkDirectory
from paretune_contract.stages import INTAKE
from support.made_recipes import copied_run, simulated_run

INT8 = "settings: {quantization: {scheme: int8}}\n"
SPARSE = "settings: {quantization: {scheme: int4}, sparsity: {pattern: unstructured, level: 0.5}}\n"
STUDY = """
apiVersion: paretune.dev/v1alpha1
kind: OptimizationStudy
metadata: {name: other}
spec:
  model: {uri: m.tflite}
  dataset:
    calibration: {uri: c.npz}
    evaluation: {uri: e.npz}
    scale: 0.5
  objectives: [{metric: agreement}, {metric: downloadSize}]
"""


class Said:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Shell:
    """A folder in which `paretune apply` is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def apply(self, *arguments: object) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["paretune", "apply", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Said(int(ended.value.code or 0), *self._capsys.readouterr())

    def refused(self, *arguments: object) -> str:
        """What is said by a command that ends with 2."""
        said = self.apply(*arguments)
        assert said.code == 2, said.err
        assert "Traceback" not in said.err
        return said.err


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.chdir(tmp_path)
    for name in ("m.tflite", "c.npz", "e.npz", "t.npz"):
        (tmp_path / name).touch()
    (tmp_path / "int8.yaml").write_text(INT8)
    (tmp_path / "sparse.yaml").write_text(SPARSE)
    (tmp_path / "study.yaml").write_text(STUDY)
    return Shell(monkeypatch, capsys)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> WorkDirectory:
    return simulated_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def work(finished: WorkDirectory, tmp_path: Path) -> WorkDirectory:
    return copied_run(finished, tmp_path / "run")


STAGE = """
import os, signal
from paretune_contract.failure import Reason, StageError
from paretune_contract.serving import Stage, serve
from paretune_contract.stages import IntakeRequest


def intake(request):
    if request.model_uri.endswith("crash"):
        print("reading", request.model_uri, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    reason, message = open(request.model_uri).read().split(None, 1)
    raise StageError(Reason(reason), message)


serve({"intake": Stage("intake", IntakeRequest, intake)})
"""


@pytest.fixture
def failing(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Stages fail as the model's file says."""
    (tmp_path / "paretune_failing_stage.py").write_text(STAGE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(workers.MODULES, INTAKE, "paretune_failing_stage")
    return shell


# --- what is missing --------------------------------------------------------------------------------------


def test_everything_that_is_missing_is_said_at_once_with_its_option(shell: Shell) -> None:
    assert shell.refused("--from", "sparse.yaml").splitlines() == [
        "--model is needed: sparse.yaml does not tell where it is; --model FILE, or --study STUDY.yaml",
        "int4 needs calibration data: --calibration FILE, or --study STUDY.yaml",
        "sparsity needs training data: --train FILE, or --study STUDY.yaml",
    ]


def test_a_front_alone_needs_to_be_told_where_model_and_data_are(
    shell: Shell, work: WorkDirectory, tmp_path: Path
) -> None:
    (tmp_path / "alone.json").write_text(work.front.read_text())
    assert "--model is needed: alone.json" in shell.refused("--from", "alone.json", "--trial", "0")
    given = ("--model", "m.tflite", "--calibration", "c.npz", "--train", "t.npz", "--dry-run")
    assert shell.apply("--from", "alone.json", "--trial", "knee", *given).code == 0


def test_a_study_brings_what_is_missing(shell: Shell) -> None:
    error = shell.refused("--from", "sparse.yaml", "--study", "study.yaml")
    assert error == "sparsity needs training data: --train FILE, or --study STUDY.yaml\n"
    said = shell.apply("--from", "int8.yaml", "--study", "study.yaml", "--dry-run", "--json")
    plan = json.loads(said.out)
    assert plan["model"] == f"{Path('m.tflite').absolute()} (the study's own)"
    assert plan["calibration"].startswith(str(Path("c.npz").absolute()))
    assert plan["evaluation"].endswith("(for agreement)")
    assert plan["input"] == "x * 0.5 + 0.0"


def test_files_that_are_gone_are_named_with_the_option_that_gives_others(
    shell: Shell, work: WorkDirectory
) -> None:
    (work.root / "calibration.npz").unlink()
    (work.root / "model.keras").unlink()
    trial = next(t.number for t in work.read_trials() if t.settings.quantization.scheme.value == "int8")
    lines = shell.refused("--from", work.root, "--trial", trial).splitlines()
    assert f"{work.root / 'model.keras'}: no such file or folder" in lines[0]
    assert "--model FILE" in lines[0]
    assert f"{work.root / 'calibration.npz'}: no such file or folder" in lines[1]
    assert "--calibration FILE" in lines[1]


def test_data_that_the_settings_do_not_read_need_not_be_there(shell: Shell, work: WorkDirectory) -> None:
    (work.root / "train.npz").unlink()
    (work.root / "calibration.npz").unlink()
    said = shell.apply("--from", work.root, "--trial", "0", "--dry-run")
    assert said.code == 0
    assert "train.npz" not in said.out
    (work.root / "evaluation.npz").unlink()
    assert "--evaluation FILE" in shell.refused("--from", work.root, "--trial", "0")
    assert shell.apply("--from", work.root, "--trial", "0", "--no-evaluation", "--dry-run").code == 0


# --- what is amiss ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "nowhere"), "'nowhere' does not exist"),
        (("--from", "study.yaml"), "--study"),
        (("--from", "int8.yaml", "--trial", "3"), "leave --trial out"),
        (("--from", "int8.yaml", "--model", "ftp://x/m.keras"), "--model ftp://x/m.keras: the scheme"),
        (("--from", "int8.yaml", "--scale", "big"), "--scale big: expected a number"),
        (("--from", "int8.yaml", "--metric", "latency"), "--metric latency: expected accuracy"),
        (("--from", "int8.yaml", "--evaluation", "e.npz", "--no-evaluation"), "leave one of them out"),
        (("--from", "int8.yaml", "--expect-same"), "records no file of the recipe"),
        (("--from", "int8.yaml", "--expect-same", "--cache", "cache"), "would prove nothing"),
        (("--from", "int8.yaml", "--study", "nowhere.yaml"), "nowhere.yaml"),
        (("--from", "int8.yaml", "--threads", "0"), "--threads"),
        ((), "--from"),
    ],
)
def test_options_that_do_not_fit_are_named(shell: Shell, arguments: tuple[str, ...], words: str) -> None:
    assert words in shell.refused(*arguments)


def test_a_study_with_faults_has_them_all_said(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(STUDY.replace("agreement", "agrement"))
    error = shell.refused("--from", "int8.yaml", "--study", "bad.yaml")
    assert "bad.yaml: spec.objectives[0].metric" in error


def test_faults_of_a_recipe_are_said_with_path_and_value(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("settings: {quantization: {scheme: int9}}")
    assert 'bad.yaml: settings.quantization.scheme: "int9"' in shell.refused("--from", "bad.yaml")


def test_the_trials_of_a_front_are_listed_where_none_is_named(shell: Shell, work: WorkDirectory) -> None:
    first, *rows = shell.refused("--from", work.root).splitlines()
    assert "--trial is needed" in first
    assert len(rows) == len(json.loads(work.front.read_text())["front"])


def test_nothing_is_overwritten_unless_it_is_told_to(
    shell: Shell, work: WorkDirectory, tmp_path: Path
) -> None:
    mine = tmp_path / "model-trial1.tflite"
    mine.write_text("mine")
    assert "model-trial1.tflite: exists already" in shell.refused("--from", work.root, "--trial", "1")
    assert "--force" in shell.refused("--from", work.root, "--trial", "1", "-o", mine)
    assert "no such folder" in shell.refused("--from", work.root, "--trial", "1", "-o", "no/m.tflite")
    assert mine.read_text() == "mine"


# --- what fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "code", "last"),
    [
        ("ModelUnreadable m.fail is damaged", 2, "m.fail is damaged"),
        ("NoEffect settings.sparsity: no layer can be pruned", 2, "no layer can be pruned"),
        (
            "DataMismatch dataset.calibration (c.npz): 9 by 9",
            2,
            "--calibration FILE gives other calibration data",
        ),
        ("StepFailed fine-tuning needs dataset.train, and there is none", 2, "--train FILE gives them"),
        ("StepFailed fine-tuning diverged in epoch 2", 1, "fine-tuning diverged in epoch 2"),
        ("StoreUnavailable no space left", 1, "no space left"),
    ],
)
def test_what_a_stage_says_decides_on_the_exit_code(
    failing: Shell, tmp_path: Path, failure: str, code: int, last: str
) -> None:
    (tmp_path / "m.fail").write_text(failure)
    before = sorted(tmp_path.iterdir())
    said = failing.apply("--from", "int8.yaml", "--model", "m.fail", "--calibration", "c.npz")
    assert said.code == code
    assert last in said.err.splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == before


def test_a_crash_ends_with_1_and_the_tail_of_the_stage_s_log(failing: Shell, tmp_path: Path) -> None:
    (tmp_path / "m.crash").touch()
    said = failing.apply("--from", "int8.yaml", "--model", "m.crash", "--calibration", "c.npz", "--json")
    assert said.code == 1
    assert said.out == ""
    assert "SIGSEGV" in said.err
    assert f"  reading {tmp_path / 'm.crash'}" in said.err


# --- what would be done -----------------------------------------------------------------------------------


def test_a_dry_run_prints_a_recipe_that_can_be_applied_and_writes_nothing(
    shell: Shell, work: WorkDirectory, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    said = shell.apply("--from", work.root, "--trial", "knee", "--dry-run")
    assert said.code == 0
    assert sorted(tmp_path.iterdir()) == before
    recipe = yaml.safe_load(said.out)
    trial = work.read_trials()[recipe["trial"]]
    assert recipe["settings"] == trial.settings.canonical()
    assert trial.status.artifact is not None
    assert recipe["artifact"]["sha256"] == trial.status.artifact.sha256
    comments = "\n".join(line for line in said.out.splitlines() if line.startswith("#"))
    assert trial.settings.sentence() in comments
    assert f"model-trial{trial.number}.tflite" in comments
    assert str(work.root / "evaluation.npz") in comments
    (tmp_path / "recipe.yaml").write_text(said.out)
    given = ("--model", "m.tflite", "--calibration", "c.npz", "--train", "t.npz", "--dry-run")
    assert yaml.safe_load(shell.apply("--from", "recipe.yaml", *given).out) == recipe


def test_options_come_before_the_study_and_the_study_before_the_run(
    shell: Shell, work: WorkDirectory
) -> None:
    def plan(*arguments: object) -> dict[str, str]:
        said = shell.apply("--from", work.root, "--trial", "1", "--dry-run", "--json", *arguments)
        return dict(json.loads(said.out))

    assert plan()["model"].startswith(str(work.root / "model.keras"))
    assert plan("--study", "study.yaml")["calibration"].startswith(str(Path("c.npz").absolute()))
    over = plan("--study", "study.yaml", "--calibration", "t.npz", "--model", "e.npz", "--offset", "1,2,3")
    assert over["calibration"].startswith(str(Path("t.npz").absolute()))
    assert over["model"] == str(Path("e.npz").absolute())
    assert over["input"] == "x * 0.5 + (1.0, 2.0, 3.0)"
    assert over["output"] == "e-trial1.tflite"
    assert plan("--metric", "rocAuc")["evaluation"].endswith("(for rocAuc)")


def test_uris_elsewhere_stay_as_they_are_and_show_no_password(shell: Shell) -> None:
    uri = "s3://models/kws/model.keras"
    said = shell.apply("--from", "int8.yaml", "--model", uri, "--calibration", "c.npz", "--dry-run", "--json")
    plan = json.loads(said.out)
    assert plan["model"] == uri
    assert plan["output"] == "model-int8.tflite"
    signed = "https://data.example/c.npz?X-Signature=secret"
    said = shell.apply("--from", "int8.yaml", "--model", uri, "--calibration", signed, "--dry-run")
    assert "secret" not in said.out
    assert "https://data.example/c.npz?***" in said.out


def test_settings_alone_are_not_judged_unless_there_are_data_for_it(shell: Shell) -> None:
    given = ("--from", "int8.yaml", "--model", "m.tflite", "--calibration", "c.npz", "--dry-run", "--json")
    assert "evaluation" not in json.loads(shell.apply(*given).out)
    assert json.loads(shell.apply(*given, "--evaluation", "e.npz").out)["evaluation"].endswith(
        "(for accuracy)"
    )
