"""What the API server itself makes of our definitions: accepts what is right, and refuses what is wrong with the
field's name and the cure."""
# ruff: noqa: E501 - a table reads best with one case on a line

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.api_server import ApiServer, Document, Refused

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*/study.yaml"))
KINDS = ("devicepools", "optimizationstudies", "optimizationtrials")
ABSENT = object()
pytestmark = pytest.mark.usefixtures("definitions")

STUDY: Document = {
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
TRIAL: Document = {
    "apiVersion": "paretune.dev/v1alpha1",
    "kind": "OptimizationTrial",
    "metadata": {"name": "kws-0003"},
    "spec": {
        "studyName": "kws",
        "number": 3,
        "settings": {"quantization": {"scheme": "int8"}},
        "ask": {"seed": 12, "seen": "0-2"},
    },
}
POOL: Document = {
    "apiVersion": "paretune.dev/v1alpha1",
    "kind": "DevicePool",
    "metadata": {"name": "raspberry-pi-4"},
    "spec": {"nodeSelector": {"board": "rpi4"}, "resources": {"limits": {"cpu": "4", "memory": "1Gi"}}},
}


def edited(document: Document, *changes: tuple[str, Any]) -> Document:
    """A copy with values at paths such as `spec/objectives/0/metric`; ABSENT takes one away."""
    copied = copy.deepcopy(document)
    for path, value in changes:
        at: Any = copied
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
        for part in parents:
            at = at.setdefault(part, {}) if isinstance(at, dict) else at[part]
        if value is ABSENT:
            del at[last]
        else:
            at[last] = value
    return copied


def refusal(api: ApiServer, namespace: str, document: Document) -> Refused:
    """How the server refuses to create it."""
    with pytest.raises(Refused) as refused:
        api.create(document, "" if document["kind"] == "DevicePool" else namespace, dryRun="All")
    return refused.value


def says(refused: Refused, field: str, *words: str) -> bool:
    """One of the causes names the field and says all of these words."""
    causes = refused.causes or [("", refused.message)]
    return any(
        (named == field or field in message) and all(word in f"{named} {message}" for word in words)
        for named, message in causes
    )


# --- what is right -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plural", KINDS)
def test_a_definition_is_served_and_structural(api: ApiServer, plural: str) -> None:
    found = api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.paretune.dev")
    conditions = {c["type"]: c for c in found["status"]["conditions"]}

    assert conditions["NamesAccepted"]["status"] == "True"
    assert conditions["Established"]["status"] == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.parent.name for example in EXAMPLES])
def test_an_example_is_accepted_with_its_files_in_a_bucket(
    api: ApiServer, namespace: str, example: Path
) -> None:
    document = yaml.safe_load(example.read_text())
    spec = document["spec"]
    for source in (spec["model"], *(part for part in spec["dataset"].values() if isinstance(part, dict))):
        source["uri"] = f"s3://bucket/{source['uri']}"

    assert api.create(document, namespace)["metadata"]["generation"] == 1


@pytest.mark.parametrize("document", [STUDY, TRIAL, POOL], ids=lambda d: d["kind"])
def test_the_documents_that_the_table_breaks_are_right_before(
    api: ApiServer, namespace: str, document: Document
) -> None:
    api.create(document, "" if document["kind"] == "DevicePool" else namespace, dryRun="All")


RIGHT = [
    ("only what is required", [("spec/space", ABSENT), ("spec/devices", ABSENT), ("spec/budget", ABSENT), ("spec/objectives", [{"metric": "accuracy"}])]),
    ("post-training only", [("spec/dataset/train", ABSENT), ("spec/space", {"quantization": {"schemes": ["none", "dynamic"]}})]),
    ("a bound in bytes", [("spec/objectives/2/atMost", 65536)]),
    ("a bound in seconds", [("spec/objectives/1/atMost", 1)]),
    ("a scale for each channel", [("spec/dataset/scale", [0.5, 1, 2.25])]),
    ("a metric of one's own", [("spec/objectives/2", {"metric": "f1", "goal": "maximize", "atLeast": -3})]),
    ("an estimator", [("spec/devices/1", {"name": "mcu", "runtime": "ethos-u", "target": "ethos-u55-128"})]),
    ("all objectives and devices there may be", [("spec/devices", [{"name": f"d{i}", "pool": f"p{i}"} for i in range(16)]), ("spec/objectives", [{"metric": "latency", "device": f"d{i}"} for i in range(8)])]),
    ("a claim", [("spec/model/uri", "pvc://models/kws.keras"), ("spec/artifacts", {"uri": "pvc://store/kws", "retain": "all"})]),
    ("a model of MLflow", [("spec/model/uri", "models:/kws/3")]),
]  # fmt: skip


@pytest.mark.parametrize("changes", [c for _, c in RIGHT], ids=[name for name, _ in RIGHT])
def test_a_study_is_accepted(api: ApiServer, namespace: str, changes: list[tuple[str, Any]]) -> None:
    api.create(edited(STUDY, *changes), namespace, dryRun="All")


# --- what is wrong -----------------------------------------------------------------------------------------

WRONG_STUDIES = [
    # types, bounds and names
    ("spec/model", ABSENT, "spec.model", "Required"),
    ("spec/dataset/evaluation", ABSENT, "spec.dataset.evaluation", "Required"),
    ("spec/objectives", [], "spec.objectives", "at least 1"),
    ("spec/objectives/0", "accuracy", "spec.objectives[0]", "must be of type object"),
    ("spec/budgett", {}, "spec.budgett", "unknown field"),
    ("spec/objectives/0/max_drop", 0.1, "spec.objectives[0].max_drop", "unknown field"),
    ("spec/trials", 3, "spec.trials", "unknown field"),
    ("spec/budget/trials", "60", "spec.budget.trials", "must be of type integer"),
    ("spec/budget/trials", 2.5, "spec.budget.trials", "must be of type integer"),
    ("spec/budget/trials", 0, "spec.budget.trials", "greater than or equal to 1"),
    ("spec/budget/trials", 10_001, "spec.budget.trials", "less than or equal to 10000"),
    ("spec/budget/parallelism", 257, "spec.budget.parallelism", "less than or equal to 256"),
    ("spec/budget/maxDuration", 6.5, "spec.budget.maxDuration", "must be of type"),
    ("spec/budget/maxDuration", "64KiB", "spec.budget.maxDuration", "should match"),
    ("spec/budget/maxDuration", "0s", "spec.budget.maxDuration", "must be more than 0"),
    ("spec/suspend", "no", "spec.suspend", "must be of type boolean"),
    ("spec/search", {"sampler": "bayes"}, "spec.search.sampler", 'supported values: "auto", "tpe", "nsgaii", "random"'),
    ("spec/search", {"seed": -1}, "spec.search.seed", "greater than or equal to 0"),
    ("spec/space/quantization/schemes", ["int-8"], "spec.space.quantization.schemes[0]", "supported values"),
    ("spec/space/quantization/granularity", ["tensor", "tensor"], "spec.space.quantization.granularity[1]", "Duplicate"),
    ("spec/space/sparsity/max", 1.0, "spec.space.sparsity.max", "less than 1"),
    ("spec/dataset/scale", "1", "spec.dataset.scale", ""),
    ("spec/dataset/scale", True, "spec.dataset.scale", ""),
    ("spec/dataset/scale", [], "spec.dataset.scale", "at least 1"),
    ("spec/model/secretRef/name", "admin", "spec.model.secretRef.name", "^paretune-"),
    ("spec/devices/0/threads", 0, "spec.devices[0].threads", "greater than or equal to 1"),
    ("spec/compress", {"resources": {"limits": {"cpu": 0.5}}}, "spec.compress.resources.limits.cpu", ""),
    ("spec/training", {"learningRate": 0}, "spec.training.learningRate", "greater than 0"),
    # objectives
    ("spec/objectives/0/device", "pi", "spec.objectives[0].device", "leave device out"),
    ("spec/objectives/1/device", "pii", "spec.objectives", "not in spec.devices"),
    ("spec/objectives/1/device", ABSENT, "spec.objectives", "must name its device"),
    ("spec/objectives/2/metric", "f1", "spec.objectives[2].goal", "minimize or maximize"),
    ("spec/objectives/2/metric", "latency/pi", "spec.objectives[2].metric", "should match"),
    ("spec/objectives/0/goal", "minimize", "spec.objectives[0].goal", "leave goal out"),
    ("spec/objectives/0/atMost", "0.9", "spec.objectives[0].atMost", "use atLeast"),
    ("spec/objectives/1/maxDrop", 0.1, "spec.objectives[1].maxDrop", "use maxRatio"),
    ("spec/objectives/2/atLeast", 1000, "spec.objectives[2].atLeast", "use atMost"),
    ("spec/objectives/0/maxRatio", 0.5, "spec.objectives[0].maxRatio", "use maxDrop or atMost"),
    ("spec/objectives/0/atLeast", 97, "spec.objectives[0].atLeast", "such as 0.97"),
    ("spec/objectives/0/maxDrop", 1.5, "spec.objectives[0].maxDrop", "such as 0.01"),
    ("spec/objectives/1/atMost", "64KiB", "spec.objectives[1].atMost", "a duration such as 20ms"),
    ("spec/objectives/2/atMost", "20ms", "spec.objectives[2].atMost", "a size such as 64KiB"),
    ("spec/objectives/1/atMost", 0.02, "spec.objectives[1].atMost", "must be of type"),
    ("spec/objectives/2/metric", "accuracy", "spec.objectives", "given twice"),
    ("spec/objectives/2/atMost", "0KiB", "spec.objectives[2].atMost", "must be more than 0"),
    # devices
    ("spec/devices/1/name", "pi", "spec.devices[1]", "Duplicate"),
    ("spec/devices/0/runtime", "litert", "spec.devices[0].pool", "leave them out"),
    ("spec/devices/1/runtime", "ethos-u", "spec.devices[1].target", "such as ethos-u55-128"),
    ("spec/devices/1", {"name": "mcu", "runtime": "ethos-u", "target": "ethos-u55-100"}, "spec.devices[1].target", "such as ethos-u55-128"),
    ("spec/devices/1/target", "rpi4", "spec.devices[1].target", "leave target out"),
    # space
    ("spec/dataset/train", ABSENT, "spec.space.sparsity.patterns", "needs dataset.train for fine-tuning; give it"),
    ("spec/dataset/calibration", ABSENT, "spec.space.quantization.schemes", "need dataset.calibration; give it"),
    ("spec/space/clustering/clusters/min", 33, "spec.space.clustering.clusters.min", "at most max"),
    ("spec/space/clustering/clusters", {"max": 3}, "spec.space.clustering.clusters.min", "at most max"),
    ("spec/space/quantization/schemes", ["none", "float16"], "spec.space.clustering.stages", "needs one of dynamic, int8, int16x8, int4"),
    ("spec/space/layers/0/quantization", ABSENT, "spec.space.layers[0]", "says nothing"),
    ("spec/space/layers/0/quantization/io", "int8", "spec.space.layers[0].quantization.io", "whole model"),
    ("spec/space/layers/0/quantization/bits", 5, "spec.space.layers[0].quantization.bits", "whole model"),
    ("spec/space/allocation", ["by-guess"], "spec.space.allocation[0]", 'supported values: "uniform", "sensitivity"'),
    ("spec/space/layers/0/sparsity", {"pattern": "unstructured"}, "spec.space.layers[0].sparsity.level", "such as 0.5"),
    ("spec/space/layers/0/sparsity", {"level": 0.5}, "spec.space.layers[0].sparsity.level", "leave it out"),
    ("spec/space/layers/0/clustering", {"stage": "int8"}, "spec.space.layers[0].clustering.clusters", "such as 16"),
    ("spec/space/layers/0/sparsity/encoding", "sparse", "spec.space.layers[0].sparsity.encoding", "whole file"),
    ("spec/space/sparsity", {"patterns": ["none"], "encodings": ["sparse"]}, "spec.space.sparsity.encodings", "one of unstructured, 2:4, 1x4"),
    ("spec/space", {"quantization": {"schemes": ["int8"]}, "sparsity": {"encodings": ["sparse"]}}, "spec.space.sparsity.encodings", "none or float16"),
    ("spec", {**STUDY["spec"], "devices": [{"name": "pi", "runtime": "tflm"}], "space": {"sparsity": {"encodings": ["sparse"]}}}, "spec.space.sparsity.encodings", "reads dense files only"),
    ("spec", {**STUDY["spec"], "dataset": {"evaluation": {"uri": "s3://data/eval.npz"}}, "space": {"sparsity": {"encodings": ["sparse"]}}}, "spec.space.sparsity.encodings", "zeros dataset.train for fine-tuning"),
    ("spec/space/quantization/algorithms", ["hadamard"], "spec.space.quantization.algorithms[0]", "supported values"),
    ("spec/space/quantization", {"schemes": ["float16"], "algorithms": ["octav"]}, "spec.space.quantization.algorithms", "one of dynamic, int8, int16x8, int4"),
    ("spec/space/quantization", {"schemes": ["dynamic"], "calibrationSamples": [0, 50]}, "spec.space.quantization.calibrationSamples", "one of int8, int16x8, int4"),
    ("spec", {**STUDY["spec"], "dataset": {"evaluation": {"uri": "s3://data/eval.npz"}}, "space": {"quantization": {"algorithms": ["gptq"]}}}, "spec.space.quantization.algorithms", "gptq needs dataset.calibration"),
    ("spec", {**STUDY["spec"], "dataset": {"evaluation": {"uri": "s3://data/eval.npz"}}, "space": {"quantization": {"biasCorrection": [True]}}}, "spec.space.quantization.biasCorrection", "needs dataset.calibration"),
    ("spec/space/quantization", {"training": ["aware"], "biasCorrection": [True]}, "spec.space.quantization.biasCorrection", "trained as integers are not corrected"),
    ("spec/space/quantization", {"training": ["aware"], "algorithms": ["minMax", "gptq"]}, "spec.space.quantization.algorithms", "integers of their own"),
    ("spec/space", {"rate": {"stages": ["training"]}, "quantization": {"algorithms": ["octav"]}}, "spec.space.quantization.algorithms", "integers of their own"),
    ("spec/space/sparsity", {"patterns": ["none"], "levelOf": "macs"}, "spec.space.sparsity.levelOf", "needs channel among"),
    ("spec/space/layers/0/sparsity/levelOf", "macs", "spec.space.layers[0].sparsity.levelOf", "in space.sparsity.levelOf"),
    ("spec/space/layers/0/quantization", {"scheme": "int8", "biasCorrection": True}, "spec.space.layers[0].quantization.biasCorrection", "in the whole model"),
    ("spec/space/layers/0/quantization", {"scheme": "int8", "calibrationSamples": 9}, "spec.space.layers[0].quantization.calibrationSamples", "for the whole model"),
    # what it points to
    ("spec/model/uri", "model.keras", "spec.model.uri", "a file works only on one machine"),
    ("spec/model/uri", "file:///m.keras", "spec.model.uri", "a file works only on one machine"),
    ("spec/model/uri", "ftp://x/y", "spec.model.uri", "expected s3://BUCKET/KEY"),
    ("spec/model/uri", "http://x/y", "spec.model.uri", "https://"),
    ("spec/model/uri", "https://me:secret@x/y", "spec.model.uri", "expected"),
    ("spec/model/uri", "s3://bucket", "spec.model.uri", "expected s3://BUCKET/KEY"),
    ("spec/dataset/train/uri", "train.npz", "spec.dataset.train.uri", "a file works only on one machine"),
    ("spec/dataset/train/uri", "models:/x/1", "spec.dataset.train.uri", "expected s3://BUCKET/KEY"),
    ("spec/dataset/train/uri", "pvc://claim/../x", "spec.dataset.train.uri", "expected"),
    ("spec/dataset/train/uri", "pvc://claim/..", "spec.dataset.train.uri", "expected"),
    ("spec/tracking", {"uri": "sqlite:///x.db"}, "spec.tracking.uri", "expected http:// or https://"),
    ("spec/artifacts", {"uri": "https://x/y"}, "spec.artifacts.uri", "expected s3://, gs:// or pvc://"),
    ("spec/artifacts", {"uri": "pvc://claim/../x"}, "spec.artifacts.uri", "expected"),
    ("spec/artifacts", {"retain": "none"}, "spec.artifacts.retain", 'supported values: "front", "all"'),
]  # fmt: skip


def identities(table: list[Any]) -> list[str]:
    return [
        f"{path.removeprefix('spec/')}={'absent' if value is ABSENT else value}" for path, value, *_ in table
    ]


@pytest.mark.parametrize(("path", "value", "field", "words"), WRONG_STUDIES, ids=identities(WRONG_STUDIES))
def test_a_wrong_study_is_refused_at_its_field_with_the_cure(
    api: ApiServer, namespace: str, path: str, value: Any, field: str, words: str
) -> None:
    refused = refusal(api, namespace, edited(STUDY, (path, value)))

    assert says(refused, field, words), refused.message


LAYER = {"match": "conv"}
POST_TRAINING = [("spec/dataset/train", ABSENT), ("spec/dataset/calibration", ABSENT)]
WRONG_LAYERS = [
    ({"sparsity": {"pattern": "2:4"}}, "needs dataset.train"),
    ({"clustering": {"stage": "training", "clusters": 8}}, "needs dataset.train"),
    ({"quantization": {"scheme": "int8"}}, "needs dataset.calibration"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "words"), WRONG_LAYERS, ids=str)
def test_settings_of_a_layer_need_the_data_that_those_of_the_model_need(
    api: ApiServer, namespace: str, settings: Document, words: str
) -> None:
    space = {"layers": [{**LAYER, **settings}]}
    refused = refusal(api, namespace, edited(STUDY, *POST_TRAINING, ("spec/space", space)))

    assert says(refused, "spec.space.layers", words), refused.message


def test_an_allocation_by_sensitivity_needs_calibration_data(api: ApiServer, namespace: str) -> None:
    uncalibrated = edited(
        STUDY, ("spec/dataset/calibration", ABSENT), ("spec/space", {"allocation": ["uniform"]})
    )
    api.create(uncalibrated, namespace, dryRun="All")

    refused = refusal(
        api, namespace, edited(uncalibrated, ("spec/space/allocation", ["uniform", "sensitivity"]))
    )
    assert says(refused, "spec.space.allocation", "needs dataset.calibration"), refused.message


@pytest.mark.parametrize(
    ("device", "schemes"),
    [
        ({"runtime": "edgetpu"}, ["none", "int8", "float16"]),
        ({"runtime": "ethos-u", "target": "ethos-u55-128"}, ["int8", "int4"]),
        ({"runtime": "tflm"}, ["dynamic"]),
    ],
)
def test_schemes_that_a_runtime_of_the_study_cannot_run_are_refused(
    api: ApiServer, namespace: str, device: Document, schemes: list[str]
) -> None:
    changes = [("spec/devices/1", {"name": "mcu", **device}), ("spec/space/quantization/schemes", schemes)]
    simple = [("spec/space/clustering", ABSENT), ("spec/space/quantization/io", ABSENT)]
    refused = refusal(api, namespace, edited(STUDY, *changes, *simple))
    assert says(refused, "spec.space.quantization.schemes", "edgetpu runs int8", "leave the others out")


@pytest.mark.parametrize("schemes", [["none", "int8"], ["int8"], ABSENT])
def test_schemes_that_a_runtime_of_the_study_runs_are_accepted(
    api: ApiServer, namespace: str, schemes: Any
) -> None:
    changes = [("spec/devices/1", {"name": "mcu", "runtime": "edgetpu"})]
    api.create(edited(STUDY, *changes, ("spec/space/quantization/schemes", schemes)), namespace, dryRun="All")


def test_without_devices_objectives_are_on_cpu(api: ApiServer, namespace: str) -> None:
    objectives = [{"metric": "latency"}, {"metric": "peakMemory", "device": "cpu"}]
    bare = edited(STUDY, ("spec/devices", ABSENT), ("spec/objectives", objectives))
    api.create(bare, namespace, dryRun="All")

    refused = refusal(api, namespace, edited(bare, ("spec/objectives/1/device", "pi")))
    assert says(refused, "spec.objectives", "not in spec.devices"), refused.message


def test_one_objective_cannot_be_given_with_and_without_its_only_device(
    api: ApiServer, namespace: str
) -> None:
    objectives = [{"metric": "latency"}, {"metric": "latency", "device": "cpu"}]
    refused = refusal(
        api, namespace, edited(STUDY, ("spec/devices", ABSENT), ("spec/objectives", objectives))
    )

    assert says(refused, "spec.objectives", "given twice"), refused.message


WRONG_POOLS = [
    ("spec/runtime", "tensorrt", "spec.runtime", 'supported values: "litert", "edgetpu", "ethos-u", "tflm"'),
    ("spec/runtime", "ethos-u", "spec.target", "such as ethos-u55-128"),
    ("spec/target", "rpi4", "spec.target", "leave target out"),
    ("spec/nodeSelector", {"board": 4}, "spec.nodeSelector.board", "must be of type string"),
    ("spec/tolerations", [{"key": "a", "effect": "Never"}], "spec.tolerations[0].effect", "supported values"),
    ("spec/maxConcurrent", 0, "spec.maxConcurrent", "greater than or equal to 1"),
    ("spec/pendingDeadline", "0h", "spec.pendingDeadline", "must be more than 0"),
    ("spec/pendingDeadline", "soon", "spec.pendingDeadline", "should match"),
    ("spec/resources/limits", {"cpu": "many"}, "spec.resources.limits.cpu", "should match"),
    ("spec/image", "two words", "spec.image", "should match"),
    ("spec/threads", 0, "spec.threads", "greater than or equal to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "field", "words"), WRONG_POOLS, ids=identities(WRONG_POOLS))
def test_a_wrong_pool_is_refused_at_its_field(
    api: ApiServer, namespace: str, path: str, value: Any, field: str, words: str
) -> None:
    refused = refusal(api, namespace, edited(POOL, (path, value)))

    assert says(refused, field, words), refused.message


WRONG_TRIALS = [
    ("spec/number", -1, "spec.number", "greater than or equal to 0"),
    ("spec/ask", ABSENT, "spec.ask", "Required"),
    ("spec/ask/seen", "0..2", "spec.ask.seen", "should match"),
    ("spec/settings/quantization/scheme", "int7", "spec.settings.quantization.scheme", "supported values"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "field", "words"), WRONG_TRIALS, ids=identities(WRONG_TRIALS))
def test_a_wrong_trial_is_refused_at_its_field(
    api: ApiServer, namespace: str, path: str, value: Any, field: str, words: str
) -> None:
    refused = refusal(api, namespace, edited(TRIAL, (path, value)))

    assert says(refused, field, words), refused.message


# --- what may change ---------------------------------------------------------------------------------------


@pytest.fixture
def study(api: ApiServer, namespace: str) -> str:
    """Path of a study that exists."""
    api.create(STUDY, namespace)
    return f"/apis/paretune.dev/v1alpha1/namespaces/{namespace}/optimizationstudies/kws"


FROZEN = [
    ("model", {"uri": "s3://models/other.keras"}),
    ("dataset", {"scale": 2.0}),
    ("training", {"epochs": 3}),
    ("objectives", [{"metric": "accuracy"}]),
    ("devices", [{"name": "pi", "pool": "other"}, {"name": "mcu", "runtime": "litert"}]),
    ("devices", None),
    ("space", None),
    ("space", {"sparsity": {"max": 0.5}}),
    ("search", {"sampler": "random"}),
    ("compress", {"queue": "other"}),
    ("evaluation", {"maxDuration": "5s"}),
    ("benchmark", {"halfWidth": 0.5}),
    ("artifacts", {"retain": "all"}),
    ("tracking", {"experiment": "other"}),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), FROZEN, ids=[f"{f}={v}" for f, v in FROZEN])
def test_what_a_study_was_accepted_with_cannot_change(
    api: ApiServer, study: str, field: str, value: Any
) -> None:
    with pytest.raises(Refused) as refused:
        api.patch(study, {"spec": {field: value}})

    assert says(
        refused.value,
        f"spec.{field}",
        f"{field} cannot change once the study exists; only budget and suspend can",
    )


def test_budget_and_suspend_of_a_study_may_change(api: ApiServer, study: str) -> None:
    changed = api.patch(study, {"spec": {"budget": {"trials": 80, "parallelism": 2}, "suspend": True}})

    assert changed["metadata"]["generation"] == 2
    assert changed["spec"]["budget"]["trials"] == 80


def test_a_status_is_written_on_its_own_and_leaves_the_generation(api: ApiServer, study: str) -> None:
    api.patch(study, {"status": {"progress": "ignored"}})
    assert "status" not in api.get(study)

    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = {
        "observedGeneration": 1,
        "progress": "3/40",
        "conditions": [condition],
        "trials": {"running": 2},
    }
    written = api.patch(f"{study}/status", {"status": status, "spec": {"suspend": True}})
    assert written["metadata"]["generation"] == 1
    assert written["status"]["progress"] == "3/40"
    assert written["spec"]["suspend"] is False


@pytest.fixture
def trial(api: ApiServer, namespace: str) -> str:
    """Path of a trial that is complete."""
    api.create(TRIAL, namespace)
    path = f"/apis/paretune.dev/v1alpha1/namespaces/{namespace}/optimizationtrials/kws-0003"
    exact = {"value": 0.9, "low": 0.9, "high": 0.9}
    api.patch(f"{path}/status", {"status": {"state": "Benchmarking", "attempts": 1}})
    api.patch(f"{path}/status", {"status": {"state": "Complete", "metrics": {"accuracy": exact}}})
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"number": 4},
        {"settings": {"quantization": {"scheme": "int4"}}},
        {"ask": {"seed": 1}},
        {"studyName": "x"},
    ],
)
def test_the_spec_of_a_trial_never_changes(api: ApiServer, trial: str, change: Any) -> None:
    with pytest.raises(Refused) as refused:
        api.patch(trial, {"spec": change})

    assert says(refused.value, "spec", "a trial's spec never changes")


@pytest.mark.parametrize(
    "change",
    [
        {"state": "Failed"},
        {"state": "Pending"},
        {"state": None},
        {"metrics": {"accuracy": {"value": 0.95}}},
        {"metrics": {"downloadSize": {"value": 1, "low": 1, "high": 1}}},
        {"metrics": None},
    ],
    ids=str,
)
def test_a_trial_in_a_final_state_stays_as_it_is(api: ApiServer, trial: str, change: Any) -> None:
    with pytest.raises(Refused) as refused:
        api.patch(f"{trial}/status", {"status": change})

    assert says(refused.value, "status", "a trial in a final state does not change any more")


def test_the_status_of_a_trial_in_a_final_state_cannot_be_taken_away(api: ApiServer, trial: str) -> None:
    bare = {key: value for key, value in api.get(trial).items() if key != "status"}

    with pytest.raises(Refused, match="a trial in a final state does not change any more"):
        api.replace(bare, "status")


def test_fresh_rounds_are_added_to_a_trial_in_a_final_state(api: ApiServer, trial: str) -> None:
    exact = {"value": 0.8, "low": 0.8, "high": 0.8}
    changed = api.patch(f"{trial}/status", {"status": {"final": {"metrics": {"latency/pi": exact}}}})

    assert changed["status"]["final"]["metrics"]["latency/pi"] == exact
    assert changed["status"]["metrics"]["accuracy"]["value"] == 0.9


def test_what_was_left_out_has_its_default(api: ApiServer, study: str) -> None:
    spec = api.get(study)["spec"]

    assert spec["budget"]["parallelism"] == 4
    assert spec["suspend"] is False
    assert "granularity" not in spec["space"]["quantization"], "what was not said of the space stays unsaid"


# --- what people see ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("plural", KINDS)
def test_a_table_has_the_columns_of_its_definition(api: ApiServer, namespace: str, plural: str) -> None:
    scope = "" if plural == "devicepools" else f"/namespaces/{namespace}"
    address = f"{api.url}/apis/paretune.dev/v1alpha1{scope}/{plural}"
    assert address.startswith("https://")
    definition = api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.paretune.dev")
    columns = [c["name"] for c in definition["spec"]["versions"][0]["additionalPrinterColumns"]]

    table = api.table(f"/apis/paretune.dev/v1alpha1{scope}/{plural}")
    assert [c["name"] for c in table["columnDefinitions"]][1:] == columns
    assert table["kind"] == "Table"


@pytest.mark.parametrize("name", ["studies", "study", "trials", "trial"])
def test_short_names_are_known(api: ApiServer, name: str) -> None:
    found = api.get("/apis/paretune.dev/v1alpha1")["resources"]

    assert name in {
        short for resource in found for short in (*resource.get("shortNames", ()), resource["name"])
    }
