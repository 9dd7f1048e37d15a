"""What each pod is told, and which credentials and claims go with it."""

import pytest
from paretune.api import OptimizationStudy
from paretune.api.study import StudyStatus
from paretune.cluster import publishing, tasks
from paretune.cluster.tasks import Tasks
from paretune.plan.observed import Work
from paretune.search.front import front_document
from paretune.search.objectives import resolve
from paretune_contract.dataset import Split
from paretune_contract.settings import Quantization, Scheme, Settings
from paretune_contract.stages import BENCHMARK, COMPRESS, EVALUATE, INTAKE
from paretune_contract.task import StoreKind, Task
from unit.cluster.objects import UID, study
from unit.search.toy_study import intake, record

MLFLOW = "http://mlflow:5000"
STAGES = (INTAKE, COMPRESS, EVALUATE, BENCHMARK, "retain", "purge", tasks.PUBLISH)
SECRET = {"secretRef": {"name": "paretune-store"}}
LOGIN = {"secretRef": {"name": "paretune-mlflow"}}


def made(one: OptimizationStudy, seed: int = 5) -> Tasks:
    return Tasks(one, resolve(one.spec), tasks.store_of(one, MLFLOW, False), seed=seed, threads=2)


def trials() -> list:
    int8 = Settings(quantization=Quantization(scheme=Scheme.INT8))
    return [record(0), record(1, int8)]


# --- the store --------------------------------------------------------------------------------------------


def test_a_study_that_names_no_store_has_the_artifact_proxy_of_its_tracking_server() -> None:
    store = tasks.store_of(study(tracking=LOGIN), MLFLOW, share_steps=False)
    assert (store.kind, store.uri, store.credentials) == (StoreKind.MLFLOW, MLFLOW, "tracking")
    assert (store.study, store.steps) == (f"team/{UID}", "team/steps")


def test_steps_are_shared_between_namespaces_only_where_the_admin_says_so() -> None:
    assert tasks.store_of(study(), MLFLOW, share_steps=True).steps == tasks.SHARED_STEPS


def test_a_bucket_is_used_with_the_credentials_of_the_bucket() -> None:
    one = study(artifacts={"uri": "s3://b/p", **SECRET}, tracking=LOGIN)
    store = tasks.store_of(one, MLFLOW, False)
    assert (store.kind, store.uri, store.credentials) == (StoreKind.BUCKET, "s3://b/p", "store")
    without = tasks.store_of(study(artifacts={"uri": "s3://b/p"}), MLFLOW, False)
    assert without.credentials == ""


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("pvc://share", "/mnt/claims/share"),
        ("pvc://share/", "/mnt/claims/share"),
        ("pvc://share/a/b/", "/mnt/claims/share/a/b"),
    ],
)
def test_a_claim_is_a_folder_below_the_claims(uri: str, folder: str) -> None:
    store = tasks.store_of(study(artifacts={"uri": uri}), MLFLOW, False)
    assert (store.kind, store.uri, store.credentials) == (StoreKind.FOLDER, folder, "")


# --- credentials and claims -------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_only_intake_has_the_secrets_of_model_and_data(stage: str) -> None:
    one = study(
        model={"uri": "s3://b/m", "secretRef": {"name": "paretune-model"}},
        dataset={"evaluation": {"uri": "s3://b/e", "secretRef": {"name": "paretune-data"}}},
    )
    expected = {"model": "paretune-model", "evaluation": "paretune-data"} if stage == INTAKE else {}
    assert tasks.secrets(one.spec, stage) == expected


@pytest.mark.parametrize("stage", STAGES)
def test_credentials_of_mlflow_go_only_where_mlflow_is_used(stage: str) -> None:
    proxied = study(tracking=LOGIN)
    assert tasks.secrets(proxied.spec, stage) == {"tracking": "paretune-mlflow"}
    bucket = study(tracking=LOGIN, artifacts={"uri": "s3://b/p", **SECRET})
    both = {"store": "paretune-store", "tracking": "paretune-mlflow"}
    only_store = {"store": "paretune-store"}
    assert tasks.secrets(bucket.spec, stage) == (both if stage == tasks.PUBLISH else only_store)


def test_a_secret_beside_a_claim_or_beside_no_uri_is_not_mounted() -> None:
    assert tasks.secrets(study(artifacts={"uri": "pvc://c/p", **SECRET}).spec, COMPRESS) == {}
    assert tasks.secrets(study(artifacts=SECRET).spec, COMPRESS) == {}


def test_upload_has_the_secret_of_the_store_alone() -> None:
    one = study(
        model={"uri": "s3://b/m", "secretRef": {"name": "paretune-model"}},
        artifacts={"uri": "gs://b/p", **SECRET},
        tracking=LOGIN,
    )
    found = tasks.secrets_of_upload(tasks.secrets(one.spec, INTAKE), tasks.store_of(one, MLFLOW, False))
    assert found == {"store": "paretune-store"}
    open_store = study(model={"uri": "s3://b/m", "secretRef": {"name": "paretune-model"}})
    found = tasks.secrets_of_upload(
        tasks.secrets(open_store.spec, INTAKE), tasks.store_of(open_store, MLFLOW, False)
    )
    assert found == {}


def test_claims_of_model_and_data_are_mounted_for_intake_alone() -> None:
    one = study(
        model={"uri": "pvc://models/m.keras"},
        dataset={"evaluation": {"uri": "pvc://data/e.npz"}, "train": {"uri": "pvc://data/t.npz"}},
        artifacts={"uri": "pvc://store/p"},
    )
    assert tasks.claims(one.spec, INTAKE) == ("data", "models", "store")
    assert tasks.claims(one.spec, COMPRESS) == ("store",)
    assert tasks.store_claim(one.spec) == "store"
    assert tasks.store_claim(study().spec) is None


# --- tasks ------------------------------------------------------------------------------------------------


def test_intake_is_told_of_every_source_and_which_folder_has_its_credentials() -> None:
    one = study(
        model={"uri": "s3://b/m", "secretRef": {"name": "paretune-model"}},
        dataset={
            "train": {"uri": "s3://b/t", "format": "npz"},
            "evaluation": {"uri": "s3://b/e", "secretRef": {"name": "paretune-data"}},
            "scale": 0.5,
        },
        space={"layers": [{"match": "^dense$", "quantization": {"scheme": "float16"}}]},
    )
    task = made(one).of(Work(-1, INTAKE), [])
    assert task.stage == INTAKE
    assert task.intake is not None
    assert (task.intake.model.uri, task.intake.model.credentials) == ("s3://b/m", "model")
    assert set(task.intake.dataset) == {Split.TRAIN, Split.EVALUATION}
    assert task.intake.dataset[Split.TRAIN].credentials == ""
    assert task.intake.dataset[Split.TRAIN].format == "npz"
    assert task.intake.dataset[Split.EVALUATION].credentials == "evaluation"
    assert task.intake.scaling.scale == 0.5
    assert task.intake.metrics == ("accuracy",), "neither sizes nor what a device measures"
    assert task.intake.layers == ("^dense$",)


def test_the_baseline_is_made_without_reference_and_limits() -> None:
    baseline = record(0).model_copy(
        update={"status": record(0).status.model_copy(update={"state": "Pending"})}
    )
    part = made(study()).of(Work(0, COMPRESS), [baseline]).compress
    assert part is not None
    assert part.reference is None
    assert part.size_limits == {}
    assert part.settings == Settings()


def test_a_candidate_is_made_with_its_settings_and_limits_relative_to_the_baseline() -> None:
    one = study(objectives=[{"metric": "accuracy"}, {"metric": "downloadSize", "maxRatio": 0.5}])
    found = trials()
    part = made(one).of(Work(1, COMPRESS), found).compress
    assert part is not None
    assert part.settings == found[1].settings
    assert found[0].status.artifact is not None
    assert part.reference == found[0].status.artifact.sha256
    assert part.size_limits == {"downloadSize": found[0].status.metrics["downloadSize"].value * 0.5}
    assert part.threads == 2


def test_a_benchmark_interleaves_the_candidate_with_the_baseline() -> None:
    found = trials()
    task = made(study()).of(Work(1, BENCHMARK, "cpu"), found)
    part = task.benchmark
    assert part is not None
    assert found[0].status.artifact is not None
    assert found[1].status.artifact is not None
    assert (part.candidate, part.reference) == (
        found[1].status.artifact.sha256,
        found[0].status.artifact.sha256,
    )
    assert (part.device, part.runtime, part.threads) == ("cpu", "litert", 2)
    assert task.name == "0001-benchmark-cpu"


def test_every_benchmark_has_a_seed_of_its_own_that_does_not_depend_on_the_attempt() -> None:
    found = trials()
    works = [Work(n, BENCHMARK, "cpu", final) for n in (0, 1) for final in (False, True)]
    seeds = [made(study(), seed=2**53 - 1).of(w, found).benchmark.seed for w in works]  # type: ignore[union-attr]
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_test_part_is_measured_with_more_patience_than_a_candidate() -> None:
    one = study(evaluation={"maxDuration": "30s"})
    part = made(one).of(Work(1, EVALUATE, final=True), trials()).evaluate
    assert part is not None
    assert part.evaluation_seconds == 300
    assert part.metrics == ("accuracy",)


def test_retain_and_purge_name_what_they_are() -> None:
    kept = made(study()).retain(["b" * 64])
    assert (kept.stage, kept.name) == ("retain", "retain")
    assert kept.retain is not None
    assert kept.retain.candidates == ("b" * 64,)
    gone = tasks.purge_task(kept.store)
    assert (gone.stage, gone.name) == ("purge", "purge")


@pytest.mark.parametrize(
    "work", [Work(-1, INTAKE), Work(1, COMPRESS), Work(1, BENCHMARK, "cpu"), Work(1, EVALUATE, final=True)]
)
def test_every_task_says_the_same_after_it_has_been_text(work: Work) -> None:
    task = made(study()).of(work, trials())
    assert Task.model_validate_json(task.model_dump_json(by_alias=True, exclude_defaults=True)) == task


def test_what_publish_is_told_leaves_out_status_and_annotations() -> None:
    one = study(metadata={"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x" * 100_000}})
    status = StudyStatus(intake=intake(), seed=3, tracking=MLFLOW)
    told = publishing.document(one.model_copy(update={"status": status}), tasks.store_of(one, MLFLOW, False))
    assert len(told) < 4096
    assert "last-applied" not in told
    assert MLFLOW in told
    assert UID in told


def test_records_of_the_front_are_files_that_a_config_map_takes() -> None:
    one, found = study(), trials()
    front = front_document(one, UID, 0, resolve(one.spec), found)
    files = publishing.records(front, found)
    assert set(files) == {"front.json.gz", "0000.json.gz", "0001.json.gz"}
    assert all(text.isascii() for text in files.values())
