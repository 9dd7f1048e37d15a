"""How the numbers of quantization are chosen is part of the settings, where it has a meaning."""

import pytest
from paretune_contract.settings import Algorithm, Settings
from pydantic import ValidationError


def settings(**quantization):
    return Settings.model_validate({"quantization": quantization})


def test_what_is_the_default_leaves_no_trace_in_the_document() -> None:
    plain = settings(scheme="int8", algorithm="minMax", calibrationSamples=0, biasCorrection=False)
    assert plain.canonical() == {"quantization": {"scheme": "int8"}}


def test_each_choice_makes_another_document_that_reads_back_as_the_same_settings() -> None:
    found = [
        settings(scheme="int8"),
        *(settings(scheme="int8", algorithm=a.value) for a in Algorithm if a is not Algorithm.MIN_MAX),
        settings(scheme="int8", calibrationSamples=50),
        settings(scheme="int8", biasCorrection=True),
    ]
    assert len({s.digest() for s in found}) == len(found) == 6
    assert [Settings.model_validate(s.canonical()) for s in found] == found


@pytest.mark.parametrize(
    ("meaningless", "left"),
    [
        ({"scheme": "float16", "algorithm": "octav", "biasCorrection": True}, {"scheme": "float16"}),
        ({"algorithm": "mse", "calibrationSamples": 9}, {}),
        ({"scheme": "dynamic", "calibrationSamples": 50}, {"scheme": "dynamic"}),
        (
            {"scheme": "dynamic", "algorithm": "gptq", "biasCorrection": True, "calibrationSamples": 50},
            {"scheme": "dynamic", "algorithm": "gptq", "biasCorrection": True},
        ),
        (
            {"scheme": "int8", "training": "aware", "algorithm": "gptq", "calibrationSamples": 50},
            {"scheme": "int8", "training": "aware", "calibrationSamples": 50},
        ),
    ],
)
def test_what_has_no_meaning_is_dropped(meaningless, left) -> None:
    assert settings(**meaningless).canonical() == ({"quantization": left} if left else {})


def test_weights_trained_for_bytes_have_no_algorithm_and_keep_their_calibration() -> None:
    rated = Settings.model_validate(
        {
            "quantization": {"scheme": "int8", "algorithm": "octav", "calibrationSamples": 50},
            "rate": {"ratio": 0.1},
            "layers": [{"match": "x", "quantization": {"scheme": "int4", "algorithm": "octav"}}],
        }
    )
    assert rated.canonical()["quantization"] == {
        "calibrationSamples": 50,
        "granularity": "tensor",
        "scheme": "int8",
    }
    assert rated.canonical()["layers"] == [{"match": "x", "quantization": {"scheme": "int4"}}]


def test_samples_and_correction_are_the_whole_models_and_the_algorithm_may_be_a_layers() -> None:
    layer = {"scheme": "int4", "algorithm": "mse", "calibrationSamples": 50, "biasCorrection": True}
    found = Settings.model_validate({"layers": [{"match": "x", "quantization": layer}]})
    assert found.canonical()["layers"] == [
        {"match": "x", "quantization": {"algorithm": "mse", "scheme": "int4"}}
    ]


@pytest.mark.parametrize(
    ("trained", "named"),
    [
        ({"quantization": {"training": "aware"}}, "quantization.training is aware"),
        ({"rate": {"ratio": 0.1}}, "rate.ratio is 0.1"),
        (
            {"layers": [{"match": "x", "quantization": {"scheme": "int4", "training": "aware"}}]},
            r"layers\[0\].quantization.training is aware",
        ),
    ],
    ids=["aware", "rate", "layer"],
)
def test_biases_of_weights_that_are_trained_as_integers_are_not_corrected(trained, named) -> None:
    quantization = {"scheme": "int8", "biasCorrection": True, **trained.get("quantization", {})}
    with pytest.raises(ValidationError, match=rf"quantization.biasCorrection is true, and {named}"):
        Settings.model_validate({**trained, "quantization": quantization})


@pytest.mark.parametrize(
    "wrong", [{"algorithm": "minmax"}, {"calibrationSamples": -1}, {"biasCorrection": "perhaps"}]
)
def test_other_values_are_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        settings(scheme="int8", **wrong)


def test_the_sentence_names_each_choice() -> None:
    chosen = settings(scheme="int8", algorithm="octav", calibrationSamples=50, biasCorrection=True, io="int8")
    assert chosen.sentence() == "int8 by octav, biases corrected, 50 calibration samples, int8 inputs"
