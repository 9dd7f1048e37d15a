"""What a manifest may say about the numbers of quantization, and what is wrong with the rest."""

import re

import pytest
from paretune.api.manifest import faults, load
from paretune_contract.settings import Algorithm
from support.manifest_text import manifest_text


def test_absent_means_the_defaults_alone():
    found = load(manifest_text({}), "study.yaml").spec.space.quantization
    assert (found.algorithms, found.calibration_samples, found.bias_correction) == (
        (Algorithm.MIN_MAX,),
        (0,),
        (False,),
    )


def test_lists_are_read_as_they_stand():
    asked = {
        "algorithms": ["gptq", "minMax"],
        "calibrationSamples": [50, 0],
        "biasCorrection": [True, False],
    }
    found = load(manifest_text({"quantization": asked}), "study.yaml").spec.space.quantization
    assert found.algorithms == (Algorithm.GPTQ, Algorithm.MIN_MAX)
    assert found.calibration_samples == (50, 0)
    assert found.bias_correction == (True, False)


@pytest.mark.parametrize(
    ("field", "asked", "value"),
    [
        ("algorithms", ["minMax", "gptq"], "gptq"),
        ("calibrationSamples", [0, 50], "50"),
        ("biasCorrection", [True], True),
    ],
)
def test_what_looks_at_calibration_data_needs_some(field, asked, value):
    space = {"quantization": {field: asked, "schemes": ["none", "dynamic"]}}
    found = faults(manifest_text(space, without="calibration"))
    fault = next(f for f in found if "dataset.calibration" in f.message)
    assert (fault.path, fault.value) == (f"spec.space.quantization.{field}", value)


def test_algorithms_that_look_at_the_weights_alone_need_no_data():
    space = {"quantization": {"algorithms": ["minMax", "octav", "mse"], "schemes": ["none", "dynamic"]}}
    assert faults(manifest_text(space, without="calibration")) == []


@pytest.mark.parametrize(
    ("field", "asked", "schemes", "needed"),
    [
        ("algorithms", ["octav"], ["none", "float16"], "dynamic, int16x8, int4, int8"),
        ("biasCorrection", [True], ["float16"], "dynamic, int16x8, int4, int8"),
        ("calibrationSamples", [50], ["none", "dynamic"], "int16x8, int4, int8"),
    ],
)
def test_what_no_listed_scheme_has_is_refused(field, asked, schemes, needed):
    (fault,) = faults(manifest_text({"quantization": {field: asked, "schemes": schemes}}))
    assert fault.path == f"spec.space.quantization.{field}"
    assert f"one of {needed} among" in fault.message


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"quantization": {"training": ["aware"]}}, "space.quantization.training"),
        ({"rate": {"stages": ["training"]}}, "space.rate.stages"),
        (
            {"layers": [{"match": "x", "quantization": {"scheme": "int8", "training": "aware"}}]},
            r"space.layers\[0\]",
        ),
    ],
)
def test_a_correction_of_trained_integers_alone_is_refused(space, named):
    asked = {**space, "quantization": {**space.get("quantization", {}), "biasCorrection": [False, True]}}
    (fault,) = faults(manifest_text(asked))
    assert (fault.path, fault.value) == ("spec.space.quantization.biasCorrection", True)
    assert re.search(named, fault.message)


@pytest.mark.parametrize(
    ("space", "named"),
    [
        ({"quantization": {"training": ["aware"]}}, "space.quantization.training"),
        ({"rate": {"stages": ["training"]}}, "space.rate.stages"),
    ],
)
@pytest.mark.parametrize("algorithms", [["gptq"], ["minMax", "octav"]])
def test_algorithms_for_trained_integers_alone_are_refused(space, named, algorithms):
    (fault,) = faults(
        manifest_text({**space, "quantization": {**space.get("quantization", {}), "algorithms": algorithms}})
    )
    assert (fault.path, fault.value) == ("spec.space.quantization.algorithms", algorithms[-1])
    assert named in fault.message


def test_an_algorithm_beside_one_layer_with_trained_integers_is_for_the_others():
    aware = {"match": "x", "quantization": {"scheme": "int8", "training": "aware"}}
    assert faults(manifest_text({"layers": [aware], "quantization": {"algorithms": ["gptq"]}})) == []
    assert faults(manifest_text({"quantization": {"algorithms": ["minMax"], "training": ["aware"]}})) == []


def test_beside_other_weights_trained_integers_do_no_harm():
    asked = {
        "quantization": {
            "training": ["none", "aware"],
            "biasCorrection": [False, True],
            "algorithms": ["gptq"],
        },
        "rate": {"stages": ["none", "training"]},
    }
    assert faults(manifest_text(asked)) == []


@pytest.mark.parametrize(
    ("field", "value"), [("calibrationSamples", 50), ("biasCorrection", True)], ids=["samples", "bias"]
)
def test_what_is_the_whole_models_is_refused_in_a_layer(field, value):
    layer = {"match": "conv", "quantization": {"scheme": "int8", field: value}}
    (fault,) = faults(manifest_text({"layers": [layer]}))
    assert (fault.path, fault.value) == (f"spec.space.layers[0].quantization.{field}", value)
    assert f"space.quantization.{field}" in fault.message


def test_gptq_in_a_layer_needs_calibration_data():
    layer = {"match": "conv", "quantization": {"scheme": "dynamic", "algorithm": "gptq"}}
    (fault,) = faults(manifest_text({"layers": [layer]}, without="calibration"))
    assert (fault.path, fault.value) == ("spec.space.layers[0].quantization.algorithm", "gptq")


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithms": []},
        {"algorithms": ["octav", "octav"]},
        {"algorithms": ["hadamard"]},
        {"calibrationSamples": [-1]},
        {"calibrationSamples": 50},
        {"biasCorrection": True},
        {"biasCorrection": [True, True]},
    ],
)
def test_what_is_no_list_of_such_values_is_refused_at_its_place(wrong):
    (fault,) = faults(manifest_text({"quantization": wrong}))
    assert fault.path.startswith(f"spec.space.quantization.{next(iter(wrong))}")
