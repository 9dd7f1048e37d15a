"""Recipes: where they are found, which one is meant, what they need, and why bytes may differ."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from paretune.api import State
from paretune.local.recipe_places import recipes_of
from paretune.local.recipes import NoRecipe
from paretune.local.sameness import differences
from paretune.local.settings_text import settings_from
from paretune.local.sources import needed, said_of_training
from paretune.local.workdir import WorkDirectory
from paretune.search.made_with import MadeWith, made_with
from paretune_contract.dataset import Scaling, Split
from paretune_contract.settings import Settings
from paretune_contract.training import Training
from support.made_recipes import copied_run, simulated_run
from support.simulated import simulated_intake


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> WorkDirectory:
    return simulated_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def work(finished: WorkDirectory, tmp_path: Path) -> WorkDirectory:
    return copied_run(finished, tmp_path / "run")


# --- where they are found ---------------------------------------------------------------------------------


def test_a_work_directory_has_a_recipe_for_every_trial(work: WorkDirectory) -> None:
    recipes = recipes_of(work.root)
    trials = work.read_trials()
    assert [r.settings for r in recipes.found] == [t.settings for t in trials]
    assert [r.sha256 for r in recipes.found] == [
        t.status.artifact.sha256 for t in trials if t.status.artifact
    ]
    first = recipes.found[1]
    assert first.sources.model == str(work.root / "model.keras")
    assert first.made_with is not None
    assert first.made_with.threads is not None, "front.json says more than status.json"


def test_a_front_has_the_baseline_and_the_trials_on_it(work: WorkDirectory) -> None:
    recipes = recipes_of(work.front)
    front = json.loads(work.front.read_text())
    assert [r.trial for r in recipes.found] == sorted({0, *(m["trial"] for m in front["front"])})
    assert recipes.found[0].sources.model == str(work.root / "model.keras"), "its run lies beside it"


def test_a_front_alone_knows_metrics_scaling_and_training_but_no_place(
    work: WorkDirectory, tmp_path: Path
) -> None:
    (tmp_path / "alone.json").write_text(work.front.read_text())
    recipe = recipes_of(tmp_path / "alone.json").choose("0")
    assert recipe.sources.model is None
    assert not recipe.sources.data
    assert recipe.sources.metrics == ("accuracy",)
    assert recipe.made_with == recipes_of(work.root).choose("0").made_with


def test_a_front_beside_another_run_takes_nothing_from_it(work: WorkDirectory) -> None:
    front = json.loads(work.front.read_text())
    front["study"]["uid"] = "another"
    work.front.write_text(json.dumps(front))
    assert recipes_of(work.front).choose("0").sources.model is None


def test_a_run_without_a_front_yet_has_recipes_and_how_they_are_followed(work: WorkDirectory) -> None:
    work.front.unlink()
    recipe = recipes_of(work.root).choose("1")
    assert recipe.made_with is not None
    assert recipe.made_with.training == simulated_intake(work.root).training


def test_an_exported_trial_is_a_recipe_with_its_file_s_digest(work: WorkDirectory, tmp_path: Path) -> None:
    trial = work.read_trials()[3]
    plain = trial.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(plain))
    for place in (tmp_path, tmp_path / "trial.yaml"):
        recipe = recipes_of(place).choose(None)
        assert trial.status.artifact is not None
        assert (recipe.trial, recipe.settings) == (3, trial.settings)
        assert recipe.sha256 == trial.status.artifact.sha256


def test_a_recipe_reads_back_as_it_was_written(work: WorkDirectory, tmp_path: Path) -> None:
    recipe = recipes_of(work.root).choose("2")
    for name, dump in (("r.yaml", yaml.safe_dump), ("r.json", json.dumps)):
        (tmp_path / name).write_text(dump(recipe.document()))
        again = recipes_of(tmp_path / name).choose(None)
        assert again.document() == recipe.document()
        assert again.sources.scaling == recipe.sources.scaling


def test_settings_alone_are_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("settings:\n  sparsity: {pattern: 2:4}\n")
    recipe = recipes_of(tmp_path / "r.yaml").choose(None)
    assert recipe.settings.sentence() == "2:4 sparse"
    assert (recipe.trial, recipe.sha256, recipe.made_with) == (None, "", None)
    (tmp_path / "nothing.yaml").write_text("settings:\n")
    assert recipes_of(tmp_path / "nothing.yaml").choose(None).settings == Settings()


def test_a_trial_that_failed_is_a_recipe_with_a_warning(work: WorkDirectory) -> None:
    trial = work.read_trials()[4]
    failed = {"state": State.FAILED, "reason": "NoEffect", "message": "no trace", "artifact": None}
    work.write_trial(trial.model_copy(update={"status": trial.status.model_copy(update=failed)}))
    recipe = recipes_of(work.root).choose("4")
    assert recipe.note == "trial 4 failed in its study: NoEffect: no trace"
    assert recipe.sha256 == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty; expected a front.json"),
        ("# only words", "expected a front.json"),
        ("- 1", "no recipe"),
        ("x: 1", "`settings:` at its top"),
        ("settings: {", "no YAML"),
        ("settings: {}\nsettings: {}", "settings"),
        ("kind: OptimizationStudy", "--study"),
        ('{"schemaVersion": 2, "front": [], "baseline": {}}', "schemaVersion: 2: expected 1"),
        ("spec: {studyName: s, number: x, settings: {}}", "spec.number"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "file.yaml"
    file.write_text(text)
    with pytest.raises(NoRecipe) as refused:
        recipes_of(file)
    assert str(file) in str(refused.value)
    assert words in str(refused.value)


def test_places_that_cannot_be_read_are_refused_by_name(work: WorkDirectory, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "binary", tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(NoRecipe, match=place.name):
            recipes_of(place)
    (work.trials_folder / "0002.yaml").write_text("{")
    with pytest.raises(NoRecipe, match=r"0002\.yaml"):
        recipes_of(work.root)
    (work.root / "intake.json").write_text("{")
    with pytest.raises(NoRecipe, match=r"intake\.json is damaged"):
        recipes_of(work.root)
    (work.root / "intake.json").unlink()
    with pytest.raises(NoRecipe, match="has not begun"):
        recipes_of(work.root)


# --- which one is meant -----------------------------------------------------------------------------------


def test_a_trial_is_named_by_number_by_record_or_by_what_it_is_best_in(work: WorkDirectory) -> None:
    recipes = recipes_of(work.root)
    assert {recipes.choose(t).trial for t in ("7", "0007", "simulated-0007")} == {7}
    assert recipes.choose("best-accuracy").trial is not None
    assert recipes.choose("knee").trial in {m.trial for m in recipes.front.front}  # type: ignore[union-attr]


def test_a_trial_must_be_named_where_the_front_has_several(work: WorkDirectory) -> None:
    with pytest.raises(NoRecipe) as refused:
        recipes_of(work.front).choose(None)
    first, *rows = refused.value.lines
    assert first.startswith("--trial is needed: ")
    front = json.loads(work.front.read_text())["front"]
    assert len(rows) == len(front)
    one = next(r for r in recipes_of(work.front).found if r.trial == front[0]["trial"])
    (row,) = [r for r in rows if r.split()[0] == str(one.trial)]
    assert one.settings.sentence() in row
    assert f"{front[0]['metrics']['downloadSize']['value']:,.0f} bytes" in row
    assert f"accuracy {front[0]['metrics']['accuracy']['value']:.4g}" in row


def test_the_only_trial_of_a_front_is_meant_when_none_is_named(work: WorkDirectory) -> None:
    front = json.loads(work.front.read_text())
    front["front"] = [m for m in front["front"] if m["trial"] != 0][:1]
    work.front.write_text(json.dumps(front))
    for place in (work.root, work.front):
        assert recipes_of(place).choose(None).trial == front["front"][0]["trial"]


def test_an_empty_front_has_no_trial_that_could_be_meant(work: WorkDirectory) -> None:
    front = json.loads(work.front.read_text())
    front["front"] = []
    work.front.write_text(json.dumps(front))
    with pytest.raises(NoRecipe, match="none on a front"):
        recipes_of(work.root).choose(None)


def test_a_trial_off_the_front_is_in_the_work_directory(work: WorkDirectory) -> None:
    front = recipes_of(work.front)
    on_it = {r.trial for r in front.found}
    off = next(n for n in range(12) if n not in on_it)
    with pytest.raises(NoRecipe, match="--from WORKDIR"):
        front.choose(str(off))
    assert recipes_of(work.root).choose(str(off)).trial == off


@pytest.mark.parametrize(("text", "words"), [("99", "trials 0 to 11"), ("fastest", "knee, best-accuracy")])
def test_a_trial_that_is_not_there_is_refused_with_those_that_are(
    work: WorkDirectory, text: str, words: str
) -> None:
    with pytest.raises(NoRecipe, match=words):
        recipes_of(work.root).choose(text)


def test_settings_without_a_number_take_no_trial(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("settings: {}")
    with pytest.raises(NoRecipe, match="leave --trial out"):
        recipes_of(tmp_path / "r.yaml").choose("1")


# --- settings that someone wrote --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "fault"),
    [
        ({"quantization": {"scheme": "int9"}}, "settings.quantization.scheme: \"int9\": expected 'none'"),
        ({"quantisation": {}}, "settings.quantisation: unknown field; did you mean quantization?"),
        ({"quantization": {"granularty": "tensor"}}, "did you mean granularity?"),
        ({"quantization": 3}, "settings.quantization: 3: expected a mapping"),
        ({"layers": 7}, "settings.layers: 7: expected a list"),
        ({"layers": [{"match": "a", "sparsity": {"level": 3}}]}, "settings.layers[0].sparsity.level: 3: "),
        ({"layers": [{"match": "a", "sparsity": {}}, {}]}, "settings.layers[1].match: is required"),
        (3, "settings: 3: expected a mapping"),
    ],
)
def test_faults_of_settings_name_path_value_and_what_would_be_right(plain: Any, fault: str) -> None:
    with pytest.raises(ValueError, match="settings") as refused:
        settings_from(plain)
    assert fault in str(refused.value)


# --- what they need ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "needs"),
    [
        ({}, {}),
        ({"quantization": {"scheme": "dynamic"}}, {}),
        ({"quantization": {"scheme": "float16"}, "clustering": {"stage": "int8", "clusters": 8}}, {}),
        ({"quantization": {"scheme": "int16x8"}}, {Split.CALIBRATION: "int16x8"}),
        ({"sparsity": {"pattern": "2:4"}}, {Split.TRAIN: "sparsity"}),
        (
            {"quantization": {"scheme": "dynamic", "training": "aware"}},
            {Split.TRAIN: "quantization-aware training"},
        ),
        ({"quantization": {"scheme": "float16", "training": "aware"}}, {}),
        ({"quantization": {"scheme": "dynamic", "algorithm": "octav"}}, {}),
        ({"quantization": {"scheme": "dynamic", "algorithm": "gptq"}}, {Split.CALIBRATION: "gptq"}),
        (
            {"quantization": {"scheme": "dynamic", "biasCorrection": True}},
            {Split.CALIBRATION: "bias correction"},
        ),
        ({"clustering": {"stage": "training", "clusters": 8}}, {Split.TRAIN: "clustering while training"}),
        (
            {"layers": [{"match": "a", "quantization": {"scheme": "int4"}, "sparsity": {"pattern": "2:4"}}]},
            {Split.CALIBRATION: "int4", Split.TRAIN: "sparsity"},
        ),
    ],
)
def test_settings_need_the_data_that_their_steps_read(plain: Any, needs: dict[Split, str]) -> None:
    assert needed(Settings.model_validate(plain)) == needs


def test_training_that_was_the_model_s_own_is_resolved_anew_for_another_model() -> None:
    resolved = simulated_intake(Path()).training
    assert resolved is not None
    origin = {"epochs": "manifest", "batchSize": "default: from the samples", "optimizer": "model"}
    origin |= {"learningRate": "manifest", "loss": "model", "distill": "default: there are no labels"}
    said = said_of_training(resolved.model_copy(update={"origin": origin}))
    assert said == Training(epochs=2, learning_rate=1e-3)
    assert said_of_training(None) == Training()


# --- why bytes differ -------------------------------------------------------------------------------------


def made(**changes: Any) -> MadeWith:
    base = made_with(simulated_intake(Path()), {"litert-quantizer": "0.11.0", "optuna": "5.0.0"}, 1)
    return base.model_copy(update=changes)


def test_nothing_differs_between_equal_ways_of_making() -> None:
    assert differences(made(), made(), tuple(Split)) == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"versions": {"litert-quantizer": "0.12.0", "optuna": "6"}}, "litert-quantizer 0.12.0 (was 0.11.0)"),
        ({"versions": {}}, "litert-quantizer is not here (was 0.11.0)"),
        ({"data": {**made().data, Split.CALIBRATION: "x"}}, "other calibration data"),
        ({"scaling": Scaling(scale=2.0)}, "scale 2.0 and offset 0.0 (were 1.0 and 0.0)"),
        ({"threads": 2}, "threads 2 (were 1)"),
        ({"seed": 1}, "seed 1 (was 0)"),
        ({"training": made().training.model_copy(update={"epochs": 3})}, "training.epochs 3 (was 2)"),  # type: ignore[union-attr]
        ({"model": made().model.model_copy(update={"sha256": "9"})}, "another float .tflite"),
    ],
)
def test_what_differs_is_said(changes: dict[str, Any], words: str) -> None:
    (found,) = differences(made(), made(**changes), tuple(Split))
    assert words in found


def test_what_no_step_reads_does_not_matter() -> None:
    other = made(threads=2, seed=1, data={Split.TRAIN: "x", Split.CALIBRATION: "calibration"})
    assert differences(made(), other, (Split.CALIBRATION,)) == ()
