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


RECURRENT = intake(
    layers=[
        layer(name, operator=operator, prunable=False, clusterable=False)
        for name, operator in (("scan", "UNIDIRECTIONAL_SEQUENCE_LSTM"), ("attention", "BATCH_MATMUL"))
    ]
)


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
        (RECURRENT, {}, "quantization.gptq", "CONV_2D and FULLY_CONNECTED; this model has only BATCH"),
        (RECURRENT, {}, "quantization.octav", "it is for CONV_2D, .* this model has only BATCH_MATMUL, UNI"),
        (RECURRENT, {}, "quantization.mse", "it is for CONV_2D, .* this model has only BATCH_MATMUL, UNI"),
        (
            intake(), {"calibrationSamples": [0, 100]}, "quantization.calibrationSamples.100",
            "0 takes as many: .*100",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_left_out_with_the_reason(given, asked, what, reason):
    space = space_of(given, **{**ALL, **asked})
    assert re.search(reason, why(space, what)), space.withheld


def test_a_model_with_one_layer_that_they_reach_has_the_algorithms():
    found = space_of(intake(layers=[layer(operator="DEPTHWISE_CONV_2D")]), **ALL).algorithms
    assert found == (Algorithm.MIN_MAX, Algorithm.OCTAV, Algorithm.MSE)


@pytest.mark.parametrize(
    ("there", "asked", "left"),
    [
        (100, [0, 100], (0,)),
        (100, [100], (100,)),
        (100, [99, 0], (99, 0)),
        (5000, [512, 0], (0,)),
        (5000, [700, 512], (512, 700)),
        (5000, [700, 0], (700, 0)),
    ],
)
def test_no_two_numbers_of_samples_take_the_same_ones(there, asked, left):
    given = intake()
    split = given.data[Split.CALIBRATION].model_copy(update={"samples": there})
    given = given.model_copy(update={"data": {**given.data, Split.CALIBRATION: split}})
    assert space_of(given, calibrationSamples=asked).calibration_samples == left


def test_an_algorithm_that_a_layer_insists_on_and_cannot_have_is_an_error():
    forced = [{"match": "scan", "quantization": {"scheme": "dynamic", "algorithm": "octav"}}]
    with pytest.raises(
        SpaceError, match=r"layers\[0\].quantization.algorithm: octav: it is for CONV_2D, DEPTH"
    ):
        available(spec(space={"layers": forced}), RECURRENT)


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


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        ({"algorithms": ["minMax"]}, {"algorithms": ["gptq"]}),
        ({"algorithms": ["minMax"]}, {"algorithms": ["octav", "gptq"]}),
        ({"calibrationSamples": [0]}, {"calibrationSamples": [20, 50]}),
        ({"biasCorrection": [False]}, {"biasCorrection": [True]}),
    ],
)
@pytest.mark.parametrize("stages", [["none", "training"], ["none", "int8"]])
@pytest.mark.parametrize("schemes", [["none", "int8", "int4"], ["dynamic"]])
def test_no_first_trial_is_lost_where_a_study_chooses_its_numbers(plain, other, stages, schemes):
    def first(quantization):
        chosen = {"schemes": schemes, **quantization}
        space = {"quantization": chosen, "clustering": {"stages": stages}}
        return first_trials(available(spec(space=space), intake()))

    assert len(first(other)) == len(first(plain)) > 5
