"""What a manifest may say about the allocation of budgets, and what is wrong with the rest."""

import pytest
from paretune.api.manifest import faults, load
from paretune_contract.settings import Allocation
from support.manifest_text import manifest_text


def test_absent_means_both():
    assert load(manifest_text({}), "study.yaml").spec.space.allocation == tuple(Allocation)
    assert load(manifest_text({"allocation": ["sensitivity"]}), "study.yaml").spec.space.allocation == (
        Allocation.SENSITIVITY,
    )


def test_a_list_that_is_not_there_asks_for_nothing_that_the_data_must_allow():
    assert faults(manifest_text({}, without="calibration")) == []
    assert faults(manifest_text({"allocation": ["uniform"]}, without="calibration")) == []


@pytest.mark.parametrize("asked", [["sensitivity"], ["uniform", "sensitivity"]])
def test_a_probe_that_was_asked_for_needs_calibration_data(asked):
    (fault,) = faults(manifest_text({"allocation": asked}, without="calibration"))
    assert (fault.path, fault.value) == ("spec.space.allocation", "sensitivity")
    assert "dataset.calibration" in fault.message


@pytest.mark.parametrize("wrong", [[], ["sensitivity", "sensitivity"], ["by-guess"], "sensitivity"])
def test_what_is_no_list_of_allocations_is_refused_at_its_place(wrong):
    (fault,) = faults(manifest_text({"allocation": wrong}))
    assert fault.path.startswith("spec.space.allocation")


def test_mean_bits_of_single_layers_are_refused():
    layer = {"match": "conv", "quantization": {"scheme": "int4", "bits": 5}}
    (fault,) = faults(manifest_text({"layers": [layer]}))
    assert fault.path == "spec.space.layers[0].quantization.bits"
    assert "int4 or int8" in fault.message
