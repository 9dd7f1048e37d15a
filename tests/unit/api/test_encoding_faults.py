"""What a manifest may say about sparse files and levels, and what is wrong with the rest."""

import functools

import pytest
from paretune.api.manifest import faults, load
from paretune_contract.settings import SparsityEncoding
from support.manifest_text import manifest_text

ASKED = {"encodings": ["dense", "sparse"]}
AT = "spec.space.sparsity.encodings"
text = functools.partial(manifest_text, objectives=("accuracy", "modelSize"))


def test_absent_means_dense_files_alone():
    assert load(text({}), "study.yaml").spec.space.sparsity.encodings == (SparsityEncoding.DENSE,)
    asked = load(text({"sparsity": ASKED}), "study.yaml").spec.space.sparsity.encodings
    assert asked == (SparsityEncoding.DENSE, SparsityEncoding.SPARSE)
    assert faults(text({"sparsity": {"encodings": ["dense"]}}, without="train")) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (text({"sparsity": ASKED}, without="train"), "give dataset.train"),
        (
            text({"sparsity": {"patterns": ["none", "channel"], **ASKED}}),
            "one of 1x4, 2:4, unstructured among space.sparsity.patterns",
        ),
        (
            text({"sparsity": ASKED, "quantization": {"schemes": ["int8", "int4"]}}),
            "none or float16 among space.quantization.schemes",
        ),
        (
            text({"sparsity": ASKED}, devices=[{"name": "a"}, {"name": "mcu", "runtime": "tflm"}]),
            "spec.devices[1] has runtime tflm, which reads dense files only",
        ),
    ],
    ids=["train", "patterns", "schemes", "runtime"],
)
def test_sparse_files_that_nothing_can_come_of_are_refused(given, message):
    (fault,) = faults(given)
    assert (fault.path, fault.value) == (AT, "sparse")
    assert message in fault.message


@pytest.mark.parametrize("wrong", [[], ["sparse", "sparse"], ["csr"], "sparse"])
def test_what_is_no_list_of_encodings_is_refused_at_its_place(wrong):
    (fault,) = faults(text({"sparsity": {"encodings": wrong}}))
    assert fault.path.startswith(AT)


def test_an_encoding_of_single_layers_is_refused():
    sparsity = {"pattern": "unstructured", "level": 0.8, "encoding": "sparse"}
    (fault,) = faults(text({"layers": [{"match": "conv", "sparsity": sparsity}]}))
    assert fault.path == "spec.space.layers[0].sparsity.encoding"
    assert "space.sparsity.encodings" in fault.message


def test_levels_of_macs_need_channels_to_remove():
    channels = {"levelOf": "macs", "patterns": ["none", "channel"]}
    assert faults(text({"sparsity": channels})) == faults(text({"sparsity": {"levelOf": "macs"}})) == []
    assert faults(text({"sparsity": {"levelOf": "channels", "patterns": ["none"]}})) == []
    (fault,) = faults(text({"sparsity": {"levelOf": "macs", "patterns": ["none", "unstructured"]}}))
    assert (fault.path, fault.value) == ("spec.space.sparsity.levelOf", "macs")
    assert "channel among space.sparsity.patterns" in fault.message


def test_a_level_of_macs_in_single_layers_is_refused():
    sparsity = {"pattern": "unstructured", "level": 0.8, "levelOf": "channels"}
    assert faults(text({"layers": [{"match": "conv", "sparsity": sparsity}]})) == []
    (fault,) = faults(text({"layers": [{"match": "conv", "sparsity": {**sparsity, "levelOf": "macs"}}]}))
    assert (fault.path, fault.value) == ("spec.space.layers[0].sparsity.levelOf", "macs")
    assert "space.sparsity.levelOf" in fault.message
