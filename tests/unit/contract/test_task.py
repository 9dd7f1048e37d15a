"""The document that a pod is told, and where its artifacts are."""

import pytest
from paretune_contract import task as contract
from paretune_contract.dataset import Split
from paretune_contract.settings import LayerSettings, Quantization, Settings
from paretune_contract.task import (
    BenchmarkTask,
    CompressTask,
    EvaluateTask,
    IntakeTask,
    PurgeTask,
    RetainTask,
    Source,
    Store,
    StoreKind,
    Task,
)
from pydantic import ValidationError

SHA = "a" * 64
STORE = Store(kind=StoreKind.MLFLOW, uri="http://mlflow:5000", study="team/uid", steps="team/steps")
PARTS = {
    "intake": IntakeTask(
        model=Source(uri="s3://b/m"), dataset={Split.EVALUATION: Source(uri="s3://b/e")}, layers=("^a$",)
    ),
    "compress": CompressTask(settings=Settings(), size_limits={"downloadSize": 100.0}, reference=SHA),
    "evaluate": EvaluateTask(candidate=SHA, reference=SHA, metrics=("accuracy",)),
    "benchmark": BenchmarkTask(candidate=SHA, reference=SHA, device="pi"),
    "retain": RetainTask(candidates=(SHA,)),
    "purge": PurgeTask(),
}


def text(task: Task) -> str:
    return task.model_dump_json(by_alias=True, exclude_defaults=True)


@pytest.mark.parametrize("stage", PARTS)
def test_a_task_is_the_same_after_it_has_been_in_an_environment(stage: str) -> None:
    task = Task.model_validate({"store": STORE, "name": "n", stage: PARTS[stage]})
    found = Task.model_validate_json(text(task))
    assert found == task
    assert found.stage == stage


def test_a_part_without_content_is_still_there() -> None:
    task = Task(store=STORE, name="purge", purge=PurgeTask())
    assert Task.model_validate_json(text(task)).stage == "purge"


def test_a_layer_that_is_left_alone_is_still_left_alone() -> None:
    settings = Settings(layers=(LayerSettings(match="^first$", quantization=Quantization()),))
    task = Task(store=STORE, name="n", compress=CompressTask(settings=settings))
    found = Task.model_validate_json(text(task))
    assert found.compress is not None
    assert found.compress.settings == settings
    assert found.compress.settings.digest() == settings.digest()
    assert found.compress.settings.layers[0].quantization is not None


@pytest.mark.parametrize("parts", [(), ("retain", "purge"), tuple(PARTS)])
def test_a_task_has_exactly_one_part(parts: tuple[str, ...]) -> None:
    task = Task.model_validate({"store": STORE, "name": "n", **{p: PARTS[p] for p in parts}})
    with pytest.raises(ValueError, match=f"exactly one of .* found {', '.join(parts) or 'none'}"):
        _ = task.stage


def test_what_a_newer_operator_says_of_task_and_store_is_left_unread() -> None:
    plain = {
        "store": {**STORE.model_dump(mode="json"), "region": "x"}, "name": "n", "purge": {}, "priority": 3,
    }  # fmt: skip
    assert Task.model_validate(plain).stage == "purge"


def test_what_a_newer_operator_wants_of_a_stage_is_not_passed_over() -> None:
    plain = {"store": STORE, "name": "n", "retain": {"candidates": [], "olderThan": 3}}
    with pytest.raises(ValidationError, match="olderThan"):
        Task.model_validate(plain)


@pytest.mark.parametrize("sha", ["", "A" * 64, "a" * 63, "../" + "a" * 61, "a" * 64 + "\n"])
def test_a_candidate_is_named_by_a_sha256_and_by_nothing_else(sha: str) -> None:
    with pytest.raises(ValidationError):
        BenchmarkTask(candidate=sha, reference=SHA, device="pi")
    with pytest.raises(ValidationError):
        RetainTask(candidates=(sha,))


def test_the_store_is_laid_out_as_documented() -> None:
    assert contract.candidate_name(STORE, SHA) == f"team/uid/candidates/{SHA}.tflite"
    assert contract.result_name(STORE, "0007-compress") == "team/uid/results/0007-compress.json"
    assert contract.log_name(STORE, "0007-compress") == "team/uid/logs/0007-compress.log"
    assert contract.intake_name(STORE) == "team/uid/intake/intake.json"
    assert contract.intake_name(STORE, "model.tflite") == "team/uid/intake/model.tflite"
    assert contract.step_name(STORE, "k") == "team/steps/k.tar"
    assert contract.wrote_step_name(STORE) == "team/uid/steps"
    assert contract.wrote_step_name(STORE, "k") == "team/uid/steps/k"


def test_everything_of_a_study_but_shared_steps_lies_below_its_own_prefix() -> None:
    found = [
        contract.candidate_name(STORE, SHA), contract.result_name(STORE, "t"), contract.log_name(STORE, "t"),
        contract.intake_name(STORE), contract.wrote_step_name(STORE, "k"),
    ]  # fmt: skip
    assert all(name.startswith("team/uid/") for name in found)
    assert not contract.step_name(STORE, "k").startswith("team/uid/")


def test_exit_codes_are_those_of_sysexits() -> None:
    import os

    assert (os.EX_TEMPFAIL, os.EX_DATAERR) == (contract.TRY_AGAIN, contract.GIVE_UP)
