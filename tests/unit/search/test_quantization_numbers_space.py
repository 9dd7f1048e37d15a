"""Where a study chooses the numbers of quantization, and where there is nothing to choose."""

import re

import pytest
from paretune.search.prior import first_trials
from paretune.search.space import SpaceError, available
from paretune_contract.dataset import Split
from paretune_contract.settings import (
    INTEGER_SCHEMES,
    STATIC_SCHEMES,
    Algorithm,
    ClusteringStage,
    QuantizationTraining,
    Scheme,
    Settings,
)
from unit.search.toy_study import intake, layer, spec

ALL = {
    "algorithms": ["minMax", "octav", "mse", "gptq"],
    "calibrationSamples": [0, 50],
    "biasCorrection": [False, True],
}


FEW = {
    "sparsity": {"patterns": ["none"]},
    "clustering": {"clusters": {"min": 8, "max": 8}},
    "rate": {"ratio": {"min": 0.1, "max": 0.1}},
    "allocation": ["uniform"],
}


def space_of(given=None, **quantization):
    return available(spec(space={**FEW, "quantization": quantization}), given or intake())


def why(space, what: str) -> str:
    return next((w.why for w in space.withheld if w.what == what), "")


def test_a_space_that_says_nothing_is_as_large_as_before():
    space = available(spec(), intake())
    assert space.algorithms == (Algorithm.MIN_MAX,)
    assert (space.calibration_samples, space.bias_corrections) == ((0,), (False,))
    assert not {"algorithm", "calibrationSamples", "biasCorrection"} & set(space.distributions)


def test_each_is_asked_where_it_means_something_and_nowhere_else():
    space = space_of(**ALL)
    seen = set()
    for cell in space.cells():
        q, rated = cell.quantization, cell.rate.ratio > 0
        trained = rated or q.training is QuantizationTraining.AWARE
        params = {name.partition("/")[0] for name in space.params_of(cell)}
        chosen = q.scheme in INTEGER_SCHEMES and not trained
        assert ("algorithm" in params) is ("biasCorrection" in params) is chosen
        assert ("calibrationSamples" in params) is (q.scheme in STATIC_SCHEMES)
        if not chosen:
            assert (q.algorithm, q.bias_correction) == (Algorithm.MIN_MAX, False)
        seen.add((q.algorithm, q.calibration_samples, q.bias_correction))
    assert len(seen) == 4 * 2 * 2


def test_clusters_from_training_are_never_rounded_apart():
    space = space_of(**ALL)
    found = {
        cell.quantization.algorithm
        for cell in space.cells()
        if cell.clustering.stage is ClusteringStage.TRAINING
    }
    assert found == {Algorithm.MIN_MAX, Algorithm.OCTAV, Algorithm.MSE}


def test_settings_lead_to_parameters_and_back():
    space = space_of(**ALL, schemes=["none", "int8"])
    cells = list(space.cells())
    assert len({cell.digest() for cell in cells}) == len(cells) == space.size
    one = Settings.model_validate(
        {
            "quantization": {
                "scheme": "int8", "algorithm": "gptq", "calibrationSamples": 50, "biasCorrection": True
            }
        }
    )  # fmt: skip
    params = space.params_of(one)
    assert (params["algorithm"], params["calibrationSamples"], params["biasCorrection"]) == (3, 0, 1)
    assert space.contains(one)


@pytest.mark.parametrize(
    ("given", "asked", "what", "reason"),
    [
        (intake((Split.TRAIN, Split.EVALUATION)), {}, "quantization.gptq", "dataset.calibration, which is"),
        (
            intake((Split.TRAIN, Split.EVALUATION)), {}, "quantization.biasCorrection",
            "dataset.calibration, which is",
        ),
        (intake(), {"schemes": ["none", "float16"]}, "quantization.octav", "no integer scheme is left"),
        (intake(), {"schemes": ["float16"]}, "quantization.biasCorrection", "no integer scheme is left"),
        (intake(), {"schemes": ["dynamic"]}, "quantization.calibrationSamples.50", "no static scheme"),
        (
            intake(), {"calibrationSamples": [0, 60_000]}, "quantization.calibrationSamples.60000",
            r"dataset.calibration has [\d,]+ samples",
        ),
        (
            intake(layers=[layer(operator="DEPTHWISE_CONV_2D")]), {}, "quantization.gptq",
            "this model has only DEPTHWISE_CONV_2D",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_left_out_with_the_reason(given, asked, what, reason):
    space = space_of(given, **{**ALL, **asked})
    assert re.search(reason, why(space, what)), space.withheld


def test_gptq_that_a_layer_insists_on_and_cannot_have_is_an_error():
    forced = [{"match": "x", "quantization": {"scheme": "dynamic", "algorithm": "gptq"}}]
    data = intake((Split.TRAIN, Split.EVALUATION))
    with pytest.raises(SpaceError, match=r"layers\[0\].quantization.algorithm: gptq: it rounds"):
        available(spec(space={"layers": forced}), data)


def test_the_first_trials_are_in_a_space_without_the_defaults():
    space = space_of(algorithms=["octav"], calibrationSamples=[50], biasCorrection=[True])
    found = [settings for settings, _ in first_trials(space)]
    assert len(found) > 5
    for settings in found[1:]:
        assert space.contains(settings)
        q = settings.quantization
        if q.scheme is Scheme.INT8 and q.training is QuantizationTraining.NONE and not settings.rate.ratio:
            assert (q.algorithm, q.calibration_samples, q.bias_correction) == (Algorithm.OCTAV, 50, True)
