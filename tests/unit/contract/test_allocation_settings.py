"""Where an allocation and mean bits have a meaning, and where they leave no trace."""

import pytest
from paretune_contract.settings import Allocation, Settings
from pydantic import ValidationError

SPARSE = {"pattern": "unstructured", "level": 0.5}
SENSITIVE = {"allocation": "sensitivity"}


def canonical(**fields):
    return Settings.model_validate(fields).canonical()


@pytest.mark.parametrize(
    "meaningful",
    [
        {"sparsity": SPARSE},
        {"sparsity": {"pattern": "1x4", "level": 0.5}},
        {"clustering": {"stage": "int8", "clusters": 8}, "quantization": {"scheme": "int8"}},
        {"quantization": {"scheme": "int4", "bits": 5.5}},
        {"quantization": {"scheme": "int4", "bits": 5.5}, "sparsity": SPARSE},
    ],
)
def test_an_allocation_stands_where_there_is_something_to_divide(meaningful):
    assert canonical(**meaningful, **SENSITIVE) == {**meaningful, **SENSITIVE}


@pytest.mark.parametrize(
    "indivisible",
    [
        {},
        {"quantization": {"scheme": "int8"}},
        {"quantization": {"scheme": "int4"}},
        {"sparsity": {"pattern": "2:4"}},
        {"sparsity": {"pattern": "channel", "level": 0.3}},
        {"quantization": {"scheme": "int8", "granularity": "tensor"}, "rate": {"ratio": 0.05}},
        {"layers": [{"match": "x", "sparsity": SPARSE}]},
    ],
)
def test_an_allocation_of_what_is_alike_in_all_layers_leaves_no_trace(indivisible):
    assert canonical(**indivisible, **SENSITIVE) == indivisible


@pytest.mark.parametrize(
    ("quantization", "plain"),
    [
        ({"scheme": "int4", "bits": 4}, {"scheme": "int4"}),
        ({"scheme": "int8", "bits": 5}, {"scheme": "int8"}),
        ({"bits": 5}, None),
    ],
)
def test_mean_bits_are_for_int4_above_four(quantization, plain):
    found = canonical(quantization=quantization, sparsity=SPARSE, **SENSITIVE)
    assert found.get("quantization") == plain


def test_mean_bits_need_an_allocation_by_sensitivity():
    mixed = {"scheme": "int4", "bits": 5}
    assert canonical(quantization=mixed) == {"quantization": {"scheme": "int4"}}
    assert canonical(quantization=mixed, sparsity=SPARSE, allocation="uniform") == {
        "quantization": {"scheme": "int4"}, "sparsity": SPARSE,
    }  # fmt: skip


def test_mean_bits_of_single_layers_leave_no_trace():
    layer = {"match": "x", "quantization": {"scheme": "int4", "bits": 5}}
    found = canonical(sparsity=SPARSE, layers=[layer], **SENSITIVE)
    assert found["layers"] == [{"match": "x", "quantization": {"scheme": "int4"}}]


def test_rate_aware_training_divides_by_itself():
    rated = {"scheme": "int4", "bits": 5}
    found = canonical(quantization=rated, sparsity=SPARSE, rate={"ratio": 0.05}, **SENSITIVE)
    assert found == {"quantization": {"scheme": "int4", "granularity": "tensor"}, "rate": {"ratio": 0.05}}


def test_equal_allocations_have_equal_documents_and_uniform_is_the_default():
    assert Settings().allocation is Allocation.UNIFORM
    assert canonical(sparsity=SPARSE, allocation="uniform") == {"sparsity": SPARSE}
    once = Settings.model_validate({"sparsity": SPARSE, **SENSITIVE})
    assert Settings.model_validate(once.canonical()) == once
    assert once.digest() != Settings.model_validate({"sparsity": SPARSE}).digest()


@pytest.mark.parametrize("bits", [3.9, 8, -1])
def test_bits_that_no_format_has_are_refused(bits):
    with pytest.raises(ValidationError, match="bits"):
        Settings.model_validate({"quantization": {"scheme": "int4", "bits": bits}, **SENSITIVE})


def test_an_allocation_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match="by-guess"):
        Settings.model_validate({"sparsity": SPARSE, "allocation": "by-guess"})


def test_the_sentence_says_by_what_and_how_much():
    mixed = Settings.model_validate(
        {"quantization": {"scheme": "int4", "bits": 5.5}, "sparsity": SPARSE, **SENSITIVE}
    )
    assert mixed.sentence() == "int4 at 5.5 bits a weight, 50% sparse, allocated by sensitivity"
