"""Every fault of a manifest is found, at its path, with what would be right."""
# ruff: noqa: E501 - a table reads best with one case on a line

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from paretune.api.faults import Fault, ManifestError
from paretune.api.manifest import faults, load, study_from

VALID: dict[str, Any] = {
    "apiVersion": "paretune.dev/v1alpha1",
    "kind": "OptimizationStudy",
    "metadata": {"name": "kws"},
    "spec": {
        "model": {"uri": "s3://models/kws.keras", "secretRef": {"name": "paretune-models"}},
        "dataset": {
            "train": {"uri": "s3://data/train.npz"},
            "calibration": {"uri": "s3://data/calib.npz"},
            "evaluation": {"uri": "s3://data/eval.npz"},
        },
        "objectives": [
            {"metric": "accuracy", "maxDrop": 0.01},
            {"metric": "latency", "device": "pi", "atMost": "20ms"},
            {"metric": "downloadSize"},
        ],
        "devices": [{"name": "pi", "pool": "raspberry-pi-4"}, {"name": "mcu", "runtime": "litert"}],
        "space": {
            "quantization": {"schemes": ["none", "int8"], "io": ["float32", "int8"]},
            "sparsity": {"patterns": ["none", "2:4"], "max": 0.8},
            "clustering": {"stages": ["none", "training", "int8"], "clusters": {"min": 4, "max": 32}},
            "layers": [{"match": "conv", "quantization": {"scheme": "float16"}}],
        },
        "budget": {"trials": 40, "maxDuration": "6h"},
    },
}
REMOVED = object()


def edited(*changes: tuple[str, Any]) -> dict[str, Any]:
    document = copy.deepcopy(VALID)
    for path, value in changes:
        at: Any = document
        *parents, last = [int(p) if p.isdigit() else p for p in path.split("/")]
        for part in parents:
            at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
        if value is REMOVED:
            del at[last]
        else:
            at[last] = value
    return document


def found(*changes: tuple[str, Any], base: Path | None = None) -> list[Fault]:
    return faults(yaml.safe_dump(edited(*changes), sort_keys=False), base=base)


def test_the_valid_study_has_no_fault() -> None:
    assert found() == []


ONE_FAULT = [
    # types, bounds and names
    ("metadata/name", REMOVED, "metadata.name", "is required"),
    ("metadata/name", "Kws_1", "metadata.name", "lower-case letters, digits"),
    ("apiVersion", REMOVED, "apiVersion", "is required: paretune.dev/v1alpha1"),
    ("apiVersion", "paretune.dev/v1", "apiVersion", "expected paretune.dev/v1alpha1"),
    ("spec/model", REMOVED, "spec.model", "is required: the trained model"),
    ("spec/dataset/evaluation", REMOVED, "spec.dataset.evaluation", "is required"),
    ("spec/objectives", [], "spec.objectives", "at least 1 entry"),
    ("spec/objectives", {"metric": "accuracy"}, "spec.objectives", "expected a list: lines that begin with -"),
    ("spec/objectives/0", "accuracy", "spec.objectives[0]", "found text; expected a mapping with the fields metric"),
    ("spec/budgett", {}, "spec.budgett", "unknown field; did you mean budget?"),
    ("spec/objectives/0/max_drop", 0.1, "spec.objectives[0].max_drop", "did you mean maxDrop?"),
    ("spec/trials", 3, "spec.trials", "it belongs in spec.budget"),
    ("spec/zzz", 3, "spec.zzz", "expected one of model, dataset"),
    ("spec/budget/trials", "60", "spec.budget.trials", "found text; expected a whole number"),
    ("spec/budget/trials", 2.5, "spec.budget.trials", "expected a whole number"),
    ("spec/budget/trials", 0, "spec.budget.trials", "at least 1"),
    ("spec/budget/trials", 10**30, "spec.budget.trials", "at most 10,000"),
    ("spec/budget/parallelism", None, "spec.budget.parallelism", "found nothing; expected a whole number"),
    ("spec/budget/maxDuration", 6.5, "spec.budget.maxDuration", 'is written as text here: "6.5"'),
    ("spec/budget/maxDuration", "64KiB", "spec.budget.maxDuration", "a duration: whole seconds"),
    ("spec/budget/maxDuration", "0s", "spec.budget.maxDuration", "more than 0"),
    ("spec/budget/maxDuration", True, "spec.budget.maxDuration", "a whole number or text such as"),
    ("spec/suspend", "no way", "spec.suspend", "expected true or false"),
    ("spec/search", {"sampler": "bayes"}, "spec.search.sampler", "expected one of auto, tpe, nsgaii, random"),
    ("spec/search", {"seed": -1}, "spec.search.seed", "at least 0"),
    ("spec/space/quantization/schemes", ["int-8"], "spec.space.quantization.schemes[0]", "did you mean int8?"),
    ("spec/space/quantization/granularity", ["tensor", "tensor"], "spec.space.quantization.granularity", "twice"),
    ("spec/space/sparsity/max", 1.0, "spec.space.sparsity.max", "less than 1"),
    ("spec/space/sparsity/max", float("nan"), "spec.space.sparsity.max", "finite number"),
    ("spec/dataset/scale", "1", "spec.dataset.scale", "a number, or a list of numbers"),
    ("spec/dataset/scale", [1, True], "spec.dataset.scale", "a number, or a list of numbers"),
    ("spec/dataset/scale", [], "spec.dataset.scale", "1 to 1024 numbers"),
    ("spec/model/secretRef/name", "admin", "spec.model.secretRef.name", "begins with 'paretune-'"),
    ("spec/devices/0/threads", 0, "spec.devices[0].threads", "at least 1"),
    ("spec/compress", {"resources": {"limits": {"cpu": 0.5}}}, "spec.compress.resources.limits.cpu", '"0.5" or 500m'),
    ("spec/training", {"learningRate": 0}, "spec.training.learningRate", "more than 0"),
    # objectives
    ("spec/objectives/0/device", "pi", "spec.objectives[0].device", "accuracy has one value for all devices"),
    ("spec/objectives/1/device", "pii", "spec.objectives[1].device", "expected one of spec.devices: pi, mcu"),
    ("spec/objectives/1/device", REMOVED, "spec.objectives[1].device", "is required where there are several"),
    ("spec/objectives/2/metric", "latancy", "spec.objectives[2].metric", "did you mean latency?"),
    ("spec/objectives/2/metric", "f1", "spec.objectives[2].metric", "needs goal: minimize or maximize"),
    ("spec/objectives/2/metric", "latency/pi", "spec.objectives[2].metric", "the device is a field of its own"),
    ("spec/objectives/0/goal", "minimize", "spec.objectives[0].goal", "built in with goal maximize"),
    ("spec/objectives/0/atMost", "0.9", "spec.objectives[0].atMost", "expected atLeast"),
    ("spec/objectives/1/maxDrop", 0.1, "spec.objectives[1].maxDrop", "expected maxRatio"),
    ("spec/objectives/0/atLeast", 97, "spec.objectives[0].atLeast", "between 0 and 1; expected such as 0.97"),
    ("spec/objectives/1/atMost", "64KiB", "spec.objectives[1].atMost", "latency is compared with a duration"),
    ("spec/objectives/2/atMost", "20ms", "spec.objectives[2].atMost", "downloadSize is compared with a size"),
    ("spec/objectives/1/atMost", 0.02, "spec.objectives[1].atMost", '"0.02" or 20ms'),
    ("spec/objectives/2/metric", "accuracy", "spec.objectives[2]", "spec.objectives[0] is the same"),
    # devices
    ("spec/devices/1/name", "pi", "spec.devices[1].name", "spec.devices[0] has this name"),
    ("spec/devices/0/runtime", "litert", "spec.devices[0].runtime", "the pool knows it"),
    ("spec/devices/1/runtime", "ethos-u", "spec.devices[1].target", "such as ethos-u55-128"),
    ("spec/devices/1/target", "rpi4", "spec.devices[1].target", "litert has no targets"),
    # space
    ("spec/dataset/calibration", REMOVED, "spec.space.quantization.schemes", "need dataset.calibration"),
    ("spec/space/clustering/clusters/min", 33, "spec.space.clustering.clusters.min", "max is 32"),
    ("spec/space/clustering/clusters", {"max": 3}, "spec.space.clustering.clusters.max", "min is 4"),
    ("spec/space/layers/0/match", "((", "spec.space.layers[0].match", "no regular expression"),
    ("spec/space/layers/0/quantization", REMOVED, "spec.space.layers[0]", "says nothing about its layers"),
    ("spec/space/layers/0/quantization/io", "int8", "spec.space.layers[0].quantization.io", "the whole model's"),
    ("spec/space/layers/0/sparsity", {"pattern": "unstructured"}, "spec.space.layers[0].sparsity.level", "above 0"),
    ("spec/space/layers/0/sparsity", {"level": 0.5}, "spec.space.layers[0].sparsity.level", "patterns unstructured"),
    ("spec/space/layers/0/clustering", {"stage": "int8"}, "spec.space.layers[0].clustering.clusters", "such as 16"),
    # what it points to
    ("spec/model/uri", "ftp://x/y", "spec.model.uri", "the scheme ftp is not supported"),
    ("spec/model/uri", "http://x/y", "spec.model.uri", "expected https"),
    ("spec/model/uri", "https://me:secret@x/y", "spec.model.uri", "user name or password"),
    ("spec/model/uri", "s3://bucket", "spec.model.uri", "expected s3://BUCKET/KEY"),
    ("spec/model/uri", "file://host/x", "spec.model.uri", "is not this machine"),
    ("spec/dataset/train/uri", "models:/x/1", "spec.dataset.train.uri", "the scheme models is not supported"),
    ("spec/dataset/train/uri", "pvc://claim/../x", "spec.dataset.train.uri", "'..' is not accepted"),
    ("spec/tracking", {"uri": "./mlruns"}, "spec.tracking.uri", "sqlite:///PATH.db"),
    ("spec/artifacts", {"uri": "https://x/y"}, "spec.artifacts.uri", "expected a folder, s3, gs or pvc"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "value", "path", "cure"), ONE_FAULT)
def test_one_wrong_field_is_one_fault_at_its_path(change: str, value: Any, path: str, cure: str) -> None:
    (fault,) = found((change, value))

    assert fault.path == path
    assert cure in fault.message
    assert fault.line > 0


def test_a_static_scheme_in_a_layer_needs_calibration_and_sparsity_needs_train() -> None:
    layer = {"match": "x", "quantization": {"scheme": "int8"}, "sparsity": {"pattern": "2:4"}}
    paths = {
        f.path
        for f in found(
            ("spec/space", {"layers": [layer]}),
            ("spec/dataset/train", REMOVED),
            ("spec/dataset/calibration", REMOVED),
        )
    }

    assert paths == {"spec.space.layers[0].quantization.scheme", "spec.space.layers[0].sparsity.pattern"}


def test_int8_inputs_and_clustered_integers_need_an_integer_scheme() -> None:
    faulty = found(("spec/space/quantization/schemes", ["none", "float16"]))

    assert [f.path for f in faulty] == ["spec.space.quantization.io", "spec.space.clustering.stages"]


def test_training_techniques_asked_for_without_training_data_are_faults() -> None:
    paths = [f.path for f in found(("spec/dataset/train", REMOVED))]

    assert paths == ["spec.space.sparsity.patterns", "spec.space.clustering.stages"]


def test_quantization_aware_training_needs_training_data_and_an_integer_scheme() -> None:
    asked = ("spec/space", {"quantization": {"training": ["aware"]}})
    layer = {"match": "conv", "quantization": {"scheme": "dynamic", "training": "aware"}}
    floats = {"quantization": {"training": ["none", "aware"], "schemes": ["none", "float16"]}}

    assert not found(asked)
    assert [f.path for f in found(asked, ("spec/dataset/train", REMOVED))] == [
        "spec.space.quantization.training"
    ]
    assert [f.path for f in found(("spec/space", floats))] == ["spec.space.quantization.training"]
    assert [f.path for f in found(("spec/space", {"layers": [layer]}), ("spec/dataset/train", REMOVED))] == [
        "spec.space.layers[0].quantization.training"
    ]


def test_a_space_that_asks_for_nothing_needs_neither_train_nor_calibration() -> None:
    assert not found(
        ("spec/space", REMOVED), ("spec/dataset/train", REMOVED), ("spec/dataset/calibration", REMOVED)
    )


def test_a_misspelt_part_of_the_data_is_one_fault() -> None:
    (fault,) = found(
        ("spec/dataset/calibration", REMOVED), ("spec/dataset/calibraton", {"uri": "s3://d/c.npz"})
    )

    assert fault.path == "spec.dataset.calibraton"


def test_faulty_devices_are_not_held_against_the_objectives() -> None:
    assert [f.path for f in found(("spec/devices", "pi"))] == ["spec.devices"]


def test_cross_field_faults_are_found_beside_wrong_types() -> None:
    paths = [f.path for f in found(("spec/budget/trials", "x"), ("spec/objectives/1/device", "pii"))]

    assert paths == ["spec.objectives[1].device", "spec.budget.trials"]


@pytest.mark.parametrize(
    ("device", "schemes", "wrong"),
    [
        ({"runtime": "edgetpu"}, ["none", "int8", "float16"], "float16"),
        ({"runtime": "ethos-u", "target": "ethos-u55-128"}, ["int8", "int4", "dynamic"], "int4, dynamic"),
        ({"runtime": "tflm"}, ["dynamic"], "dynamic"),
    ],
)
def test_schemes_that_a_described_runtime_cannot_run_are_named(
    device: dict[str, Any], schemes: list[str], wrong: str
) -> None:
    changes = [("spec/devices/1", {"name": "mcu", **device}), ("spec/space/quantization/schemes", schemes)]
    simple = [("spec/space/clustering", REMOVED), ("spec/space/quantization/io", REMOVED)]
    (fault,) = found(*changes, *simple)
    assert (fault.path, fault.value) == ("spec.space.quantization.schemes", wrong)
    assert f"spec.devices[1] has runtime {device['runtime']}" in fault.message


def test_all_schemes_of_a_described_runtime_leave_the_choice_to_the_plan() -> None:
    everything = ["none", "float16", "dynamic", "int8", "int16x8", "int4"]
    device = {"name": "mcu", "runtime": "edgetpu"}
    assert not found(("spec/devices/1", device), ("spec/space/quantization/schemes", everything))


def test_one_device_stands_in_for_an_objective_that_names_none() -> None:
    twice = [{"metric": "latency"}, {"metric": "latency", "device": "cpu"}]
    (fault,) = found(("spec/devices", REMOVED), ("spec/objectives", twice))

    assert fault.path == "spec.objectives[1]"


def test_passwords_are_blotted_out() -> None:
    (fault,) = found(("spec/model/uri", "https://me:secret@x/y"))

    assert "secret" not in str(fault)


def test_a_users_own_metric_with_a_goal_is_accepted() -> None:
    own = {"metric": "f1", "goal": "maximize", "atLeast": -3, "maxDrop": 2}

    assert found(("spec/objectives/2", own)) == []


def test_local_files_that_do_not_exist_are_faults_relative_to_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "there.keras").touch()
    (tmp_path / "gone away.npz").touch()
    changes = (
        ("spec/model/uri", "there.keras"),
        ("spec/dataset/train/uri", (tmp_path / "gone away.npz").as_uri()),
        ("spec/dataset/evaluation/uri", "nope/eval.npz"),
    )
    (fault,) = found(*changes, base=tmp_path)

    assert fault.path == "spec.dataset.evaluation.uri"
    assert fault.value == "nope/eval.npz"
    assert f"{tmp_path / 'nope/eval.npz'}: does not exist" in fault.message
    assert found(*changes) == []


def test_names_that_nothing_installed_has_are_faults_of_a_study_on_local_files(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").touch()
    own = (
        ("spec/objectives/2", {"metric": "f1", "goal": "maximize"}),
        ("spec/dataset/train/format", "tfds"),
    )
    local = found(("spec/model/uri", "m.tflite"), *own, base=tmp_path)

    assert [f.path for f in local] == ["spec.dataset.train.format", "spec.objectives[2].metric"]
    assert found(*own, base=tmp_path) == []  # it runs elsewhere, where they may be installed


def test_loading_raises_all_faults_with_the_name_of_the_file() -> None:
    text = yaml.safe_dump(edited(("spec/budget/trials", 0), ("spec/zzz", 1)))
    with pytest.raises(ManifestError) as caught:
        load(text, "study.yaml")

    assert len(caught.value.faults) == 2
    assert str(caught.value).splitlines()[0].startswith("study.yaml: spec.")


def test_loading_a_valid_manifest_gives_the_study() -> None:
    study = load(yaml.safe_dump(VALID), "study.yaml")

    assert study.metadata.name == "kws"
    assert study.spec.objectives[1].at_most == "20ms"


def test_a_status_fetched_from_a_cluster_is_left_unread() -> None:
    assert study_from({**VALID, "status": {"progress": 7}}).status.progress == ""


def test_plain_data_with_faults_is_refused_as_text_is() -> None:
    with pytest.raises(ManifestError, match=r"spec\.budget\.trials: 0: expected at least 1"):
        study_from(edited(("spec/budget/trials", 0)))
