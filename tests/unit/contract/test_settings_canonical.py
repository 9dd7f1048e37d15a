"""Equal treatments of a model have one document, and different ones never share it."""

import json

import pytest
from paretune_contract.settings import (
    Clustering,
    ClusteringStage,
    Granularity,
    InputOutput,
    LayerSettings,
    Quantization,
    Scheme,
    Settings,
    Sparsity,
    SparsityPattern,
)
from pydantic import ValidationError

INT8 = Quantization(scheme=Scheme.INT8)
ALL = Settings(
    quantization=Quantization(scheme=Scheme.INT8, granularity=Granularity.TENSOR, io=InputOutput.INT8),
    sparsity=Sparsity(pattern=SparsityPattern.UNSTRUCTURED, level=0.5),
    clustering=Clustering(stage=ClusteringStage.INT8, clusters=16),
    layers=(
        LayerSettings(match="^head", quantization=Quantization()),
        LayerSettings(match="conv", sparsity=Sparsity(pattern=SparsityPattern.TWO_OF_FOUR)),
    ),
)


def test_the_untouched_model_is_an_empty_document() -> None:
    assert Settings().canonical() == {}


def test_the_digest_of_the_untouched_model_never_changes() -> None:
    assert Settings().digest() == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_keys_are_sorted_at_every_depth() -> None:
    def ordered(value: object) -> bool:
        if isinstance(value, dict):
            return list(value) == sorted(value) and all(ordered(v) for v in value.values())
        return all(ordered(v) for v in value) if isinstance(value, list) else True

    assert ordered(ALL.canonical())


@pytest.mark.parametrize("settings", [Settings(), Settings(quantization=INT8), ALL])
def test_the_canonical_form_reads_back_as_the_same_settings(settings: Settings) -> None:
    again = Settings.model_validate(json.loads(json.dumps(settings.canonical())))

    assert again == settings
    assert again.digest() == settings.digest()


def test_the_full_form_reads_back_as_the_same_settings() -> None:
    assert Settings.model_validate_json(ALL.model_dump_json(by_alias=True)) == ALL


@pytest.mark.parametrize(
    ("meaningless", "plain"),
    [
        (
            {"quantization": {"scheme": "float16", "granularity": "tensor"}},
            {"quantization": {"scheme": "float16"}},
        ),
        ({"quantization": {"scheme": "dynamic", "io": "int8"}}, {"quantization": {"scheme": "dynamic"}}),
        ({"quantization": {"io": "int8"}}, {}),
        ({"quantization": {"training": "aware"}}, {}),
        (
            {"quantization": {"scheme": "float16", "training": "aware"}},
            {"quantization": {"scheme": "float16"}},
        ),
        (
            {
                "quantization": {"scheme": "int8", "training": "aware"},
                "rate": {"ratio": 0.1},
                "layers": [{"match": "x", "quantization": {"scheme": "int4", "training": "aware"}}],
            },
            {
                "quantization": {"scheme": "int8", "granularity": "tensor"},
                "rate": {"ratio": 0.1},
                "layers": [{"match": "x", "quantization": {"scheme": "int4"}}],
            },
        ),
        ({"sparsity": {"pattern": "none", "level": 0.5}}, {}),
        ({"sparsity": {"pattern": "unstructured", "level": 0}}, {}),
        ({"sparsity": {"pattern": "unstructured", "level": 1e-9}}, {}),
        ({"sparsity": {"pattern": "2:4", "level": 0.3}}, {"sparsity": {"pattern": "2:4"}}),
        ({"clustering": {"stage": "none", "clusters": 16}}, {}),
        ({"clustering": {"stage": "int8", "clusters": 0}}, {}),
        ({"quantization": None, "sparsity": None}, {}),
        ({"layers": [{"match": "conv"}]}, {}),
        (
            {"layers": [{"match": "x", "quantization": {"scheme": "int8", "io": "int8"}}]},
            {"layers": [{"match": "x", "quantization": {"scheme": "int8"}}]},
        ),
        (
            {"layers": [{"match": "x", "quantization": {"scheme": "float16", "granularity": "tensor"}}]},
            {"layers": [{"match": "x", "quantization": {"scheme": "float16"}}]},
        ),
    ],
)
def test_what_has_no_meaning_leaves_no_trace(
    meaningless: dict[str, object], plain: dict[str, object]
) -> None:
    assert Settings.model_validate(meaningless).canonical() == plain


def test_leaving_one_layer_alone_differs_from_not_naming_it() -> None:
    spared = Settings(quantization=INT8, layers=(LayerSettings(match="head", quantization=Quantization()),))

    assert spared.canonical()["layers"] == [{"match": "head", "quantization": {}}]
    assert spared.digest() != Settings(quantization=INT8).digest()
    assert Settings.model_validate(spared.canonical()) == spared


def test_the_order_of_layers_is_kept_because_later_entries_win() -> None:
    one, two = (LayerSettings(match=name, quantization=INT8) for name in ("a", "b"))

    assert Settings(layers=(one, two)).digest() != Settings(layers=(two, one)).digest()


def test_levels_that_differ_by_rounding_are_equal() -> None:
    def sparse(level: float) -> Settings:
        return Settings(sparsity=Sparsity(pattern=SparsityPattern.UNSTRUCTURED, level=level))

    assert sparse(0.1 + 0.2).digest() == sparse(0.3).digest()
    assert sparse(0.99999999).sparsity.level < 1


@pytest.mark.parametrize(
    "wrong",
    [{"sparsity": {"level": 1.0}}, {"clustering": {"clusters": 257}}, {"quantisation": {}}, {"layers": [{}]}],
)
def test_values_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(wrong)


def test_a_sentence_names_everything_that_is_done() -> None:
    assert ALL.sentence() == "int8 per tensor, int8 inputs, 50% sparse, 16 clusters (int8), 2 layer overrides"
    assert Settings().sentence() == "untouched"
    four = {"scheme": "int4", "training": "aware"}
    assert Settings.model_validate({"quantization": four}).sentence() == "int4, quantization-aware"
