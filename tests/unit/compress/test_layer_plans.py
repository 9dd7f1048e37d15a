import pytest
from paretune_compress.layers import resolve_layers
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import Granularity, Scheme, Settings, SparsityPattern
from support.made_layers import layer

STEM = layer("stem", shape=(8, 3, 3, 3), prunable=False, clusterable=False)
DEPTHWISE = layer(
    "depthwise", "DEPTHWISE_CONV_2D", (1, 3, 3, 64), prunable=False, clusterable=False, int4=False
)
BODY, ODD = layer("body"), layer("odd", shape=(16, 5, 5, 6))
LAYERS = (STEM, DEPTHWISE, BODY, ODD)


def plans(**settings):
    return {p.layer.name: p for p in resolve_layers(Settings.model_validate(settings), LAYERS)}


def test_depthwise_and_tiny_layers_are_never_pruned():
    found = plans(sparsity={"pattern": "unstructured", "level": 0.7})
    assert {name: p.zeros for name, p in found.items()} == {
        "stem": 0,
        "depthwise": 0,
        "body": 0.7,
        "odd": 0.7,
    }


def test_two_of_four_goes_only_where_input_channels_come_in_fours():
    found = plans(sparsity={"pattern": "2:4"})
    assert [name for name, p in found.items() if p.sparsity.pattern is SparsityPattern.TWO_OF_FOUR] == [
        "body"
    ]


def test_int4_becomes_int8_where_the_operator_has_none_and_in_tiny_layers():
    found = plans(quantization={"scheme": "int4"})
    assert {name: p.scheme for name, p in found.items()} == {
        "stem": Scheme.INT8, "depthwise": Scheme.INT8, "body": Scheme.INT4, "odd": Scheme.INT4,
    }  # fmt: skip


def test_an_override_may_insist_on_int4_in_a_tiny_layer():
    found = plans(
        quantization={"scheme": "int8"}, layers=[{"match": "^stem$", "quantization": {"scheme": "int4"}}]
    )
    assert found["stem"].scheme is Scheme.INT4


def test_weights_are_trained_as_integers_where_a_gradient_reaches_them():
    aware = {"scheme": "int4", "training": "aware"}
    assert {p.aware for p in plans(quantization=aware).values()} == {True}
    only = plans(quantization={"scheme": "int8"}, layers=[{"match": "body", "quantization": aware}])
    assert [name for name, p in only.items() if p.aware] == ["body"]
    frozen = (layer("one", trainable=False), layer("two", trainable=False))
    with pytest.raises(StageError, match=r"settings\.quantization\.training: no gradient") as error:
        resolve_layers(Settings.model_validate({"quantization": aware}), frozen)
    assert error.value.reason is Reason.NO_EFFECT


def test_clusters_from_training_are_quantized_per_tensor_so_that_they_survive():
    found = plans(quantization={"scheme": "int8"}, clustering={"stage": "training", "clusters": 16})
    assert found["body"].granularity is Granularity.TENSOR
    assert found["depthwise"].granularity is Granularity.CHANNEL


def test_of_two_overrides_the_later_wins_part_by_part():
    found = plans(
        sparsity={"pattern": "unstructured", "level": 0.5},
        layers=[
            {"match": "o", "sparsity": {"pattern": "unstructured", "level": 0.8}},
            {"match": "odd", "sparsity": {"pattern": "none"}},
            {"match": "odd", "quantization": {"scheme": "dynamic"}},
        ],
    )
    assert (found["body"].zeros, found["odd"].zeros) == (0.8, 0)
    assert (found["body"].scheme, found["odd"].scheme) == (Scheme.NONE, Scheme.DYNAMIC)


@pytest.mark.parametrize("pattern", ["nowhere", "("])
def test_a_regex_that_matches_nothing_is_an_error_that_names_it(pattern):
    with pytest.raises(StageError, match=r"settings.layers\[0\].match") as error:
        plans(layers=[{"match": pattern, "quantization": {"scheme": "int8"}}])
    assert error.value.reason is Reason.LAYER_NOT_FOUND


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": [{"match": "depthwise", "sparsity": {"pattern": "2:4"}}]},
        {"layers": [{"match": "stem", "clustering": {"stage": "int8", "clusters": 8}}]},
        {"layers": [{"match": "depthwise", "quantization": {"scheme": "int4"}}]},
        {"clustering": {"stage": "int8", "clusters": 8}},
        {"quantization": {"scheme": "float16"}, "clustering": {"stage": "int8", "clusters": 8}},
    ],
)
def test_settings_that_no_layer_can_take_are_refused_before_any_work(settings):
    with pytest.raises(StageError) as error:
        plans(**settings)
    assert error.value.reason is Reason.NO_EFFECT
