import json
from pathlib import Path

from paretune.api import State
from paretune.tracking.records import (
    escape_markdown,
    key_name,
    settings_params,
    study_params,
    study_status,
    study_tags,
    trial_run,
)
from paretune_contract.settings import Settings
from support.made_study import made_view, manifest, trial, with_final


def test_every_trial_has_the_same_parameters_defaults_included() -> None:
    assert set(settings_params(Settings())) == set(
        settings_params(Settings.model_validate({"quantization": {"scheme": "int8"}}))
    )


def test_how_numbers_are_chosen_is_a_parameter_of_every_run() -> None:
    chosen = {"scheme": "int8", "algorithm": "gptq", "calibrationSamples": 50, "biasCorrection": True}
    for quantization, values in ((chosen, ("gptq", "50", "true")), ({}, ("minMax", "0", "false"))):
        params = settings_params(Settings.model_validate({"quantization": quantization}))
        names = ("algorithm", "calibrationSamples", "biasCorrection")
        assert tuple(params[f"quantization.{name}"] for name in names) == values


def test_settings_of_layers_are_one_parameter() -> None:
    settings = Settings.model_validate({"layers": [{"match": "head", "quantization": {"scheme": "none"}}]})
    assert json.loads(settings_params(settings)["layers"])[0]["match"] == "head"


def test_metric_names_keep_their_slash_and_lose_what_mlflow_refuses() -> None:
    assert key_name("latency/cpu") == "latency/cpu"
    assert key_name("/my metric (%)/../x") == "my metric ___/x"


def test_intervals_are_logged_only_where_there_is_one(tmp_path: Path) -> None:
    view = made_view(tmp_path, 3)
    names = {p.name for p in trial_run(view, view.trials[1], False).points}
    assert {"accuracy", "accuracy.low", "accuracy.high", "downloadSize", "latency/cpu.low"} <= names
    assert "downloadSize.low" not in names


def test_fresh_rounds_are_the_latest_step_of_the_same_metric(tmp_path: Path) -> None:
    view = made_view(tmp_path, 3, state="Running")
    record = with_final(view.trials[1])
    points = [p for p in trial_run(view, record, True).points if p.name == "latency/cpu"]
    assert [p.step for p in points] == [0, 1]
    assert points[1].value > points[0].value


def test_a_failed_trial_is_a_failed_run_with_its_reason(tmp_path: Path) -> None:
    view = made_view(tmp_path, 3)
    run = trial_run(view, trial(2, tmp_path, study=view.study, state=State.FAILED), False)
    assert run.status == "FAILED"
    assert run.tags["paretune.reason"] == "Crashed"
    assert "signal 11" in run.tags["mlflow.note.content"]


def test_a_record_that_gets_final_values_has_another_digest(tmp_path: Path) -> None:
    view = made_view(tmp_path, 3, state="Running")
    before, after = view.trials[1], with_final(view.trials[1])
    assert trial_run(view, before, False).digest() != trial_run(view, after, False).digest()
    assert trial_run(view, before, False).digest() == trial_run(view, before, False).digest()


def test_no_secret_of_the_manifest_is_among_parameters_and_tags(tmp_path: Path) -> None:
    view = made_view(tmp_path, 3)
    text = json.dumps([study_params(view), study_tags(view)])
    assert "models.example" in text
    assert "hunter2" not in text
    assert "X-Signature" not in text


def test_what_a_running_study_may_change_is_no_parameter(tmp_path: Path) -> None:
    small = made_view(tmp_path, 3, study=manifest(budget={"trials": 3}))
    large = made_view(tmp_path, 3, study=manifest(budget={"trials": 30}))
    assert study_params(small) == study_params(large)
    assert study_tags(small) != study_tags(large)


def test_the_run_of_a_study_follows_its_state(tmp_path: Path) -> None:
    states = {
        s: study_status(made_view(tmp_path, 2, state=s))
        for s in ("Running", "Interrupted", "Complete", "Failed")
    }
    assert states == {
        "Running": "RUNNING",
        "Interrupted": "KILLED",
        "Complete": "FINISHED",
        "Failed": "FAILED",
    }


def test_markdown_in_a_message_is_shown_as_it_is() -> None:
    assert escape_markdown("a|b <img> *c*\nd") == "a\\|b &lt;img&gt; \\*c\\* d"
