"""Which settings are offered, and why others are not."""

from itertools import islice, pairwise

import optuna
import pytest
from paretune.api import Runtime
from paretune.search.prior import first_trials
from paretune.search.space import BASELINE, SearchSpace, SpaceError, available
from paretune_contract.dataset import Split
from paretune_contract.settings import (
    INTEGER_SCHEMES,
    ClusteringStage,
    Granularity,
    Quantization,
    QuantizationTraining,
    Scheme,
    Settings,
    Sparsity,
    SparsityPattern,
)
from paretune_contract.training import TrainerKind
from unit.search.toy_study import intake, layer, spec

DOWNLOAD = [{"metric": "accuracy"}, {"metric": "downloadSize"}]


def reasons(space: SearchSpace) -> dict[str, str]:
    return {w.what: w.why for w in space.withheld}


def test_everything_is_offered_when_model_and_data_allow_it():
    space = available(spec(), intake())
    assert space.withheld == ()
    assert set(space.schemes) == set(Scheme)
    assert set(space.patterns) == set(SparsityPattern) - {SparsityPattern.BLOCK}
    assert set(space.stages) == set(ClusteringStage)
    assert space.trainings == tuple(QuantizationTraining)


def test_without_train_there_is_no_sparsity_and_no_clustering_in_training():
    space = available(_without(spec(), "train"), intake((Split.CALIBRATION,)))
    assert space.patterns == (SparsityPattern.NONE,)
    assert ClusteringStage.TRAINING not in space.stages
    assert ClusteringStage.INT8 in space.stages
    assert "dataset.train is absent" in reasons(space)["sparsity.unstructured"]
    assert "dataset.train is absent" in reasons(space)["clustering.training"]


def _without(manifest, split):
    return manifest.model_copy(update={"dataset": manifest.dataset.model_copy(update={split: None})})


def test_an_operator_without_gradient_is_named():
    space = available(spec(), intake(untrainable=("UNIDIRECTIONAL_SEQUENCE_LSTM",)))
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in reasons(space)["sparsity.2:4"]


def test_what_the_trainer_cannot_do_is_left_out_and_says_which_one_can():
    manifest = spec(DOWNLOAD, space={"sparsity": {"patterns": ["none", "1x4", "2:4"]}})
    known = intake(layers=[layer(weight_shape=(8, 3, 3, 8))])
    assert SparsityPattern.BLOCK in available(manifest, known).patterns
    tfmot = known.training.model_copy(update={"trainer": TrainerKind.TFMOT})
    space = available(manifest, known.model_copy(update={"training": tfmot}))
    assert space.patterns == (SparsityPattern.NONE, SparsityPattern.TWO_OF_FOUR)
    assert "training.trainer: file" in reasons(space)["sparsity.1x4"]
    forced = spec(space={"layers": [{"match": "c", "sparsity": {"pattern": "1x4", "level": 0.5}}]})
    with pytest.raises(SpaceError, match=r"layers\[0\]\.sparsity\.pattern: 1x4: training\.trainer is tfmot"):
        available(forced, known.model_copy(update={"training": tfmot}))


def by_tfmot(**space):
    known = intake()
    tfmot = known.training.model_copy(update={"trainer": TrainerKind.TFMOT})
    return available(spec(DOWNLOAD, space=space), known.model_copy(update={"training": tfmot}))


def fewest(space: SearchSpace, stage: ClusteringStage, *patterns: SparsityPattern) -> int:
    clustered = [c for c in space.cells() if c.clustering.stage is stage and c.sparsity.pattern in patterns]
    return min((c.clustering.clusters for c in clustered), default=0)


TWO_TO_FOUR = {"clusters": {"min": 2, "max": 4}}
ZEROS = (SparsityPattern.UNSTRUCTURED, SparsityPattern.TWO_OF_FOUR)
WITHOUT = (SparsityPattern.NONE, SparsityPattern.CHANNEL)
FEW_CELLS = {
    "quantization": {"schemes": ["none", "int8", "int4"], "training": ["none"]},
    "sparsity": {"max": 0.2},
    "rate": {"stages": ["none"]},
}


def test_the_trainer_decides_how_few_clusters_it_makes_beside_zeros_and_nowhere_else():
    stages = [s.value for s in ClusteringStage]
    space = by_tfmot(clustering={**TWO_TO_FOUR, "stages": stages}, **FEW_CELLS)
    assert fewest(space, ClusteringStage.TRAINING, *ZEROS) == 3
    assert fewest(space, ClusteringStage.TRAINING, *WITHOUT) == 2
    assert fewest(space, ClusteringStage.INT8, *ZEROS) == fewest(space, ClusteringStage.INT8, *WITHOUT) == 2
    assert "training.trainer: file" in reasons(space)["clustering.clusters.2"]
    by_file = available(spec(DOWNLOAD, space={"clustering": TWO_TO_FOUR, **FEW_CELLS}), intake())
    assert fewest(by_file, ClusteringStage.TRAINING, *ZEROS) == 2
    assert "clustering.clusters.2" not in reasons(by_file)


def test_where_the_trainer_makes_none_of_the_clusters_beside_zeros_it_still_makes_them_elsewhere():
    space = by_tfmot(clustering={"clusters": {"min": 2, "max": 2}}, **FEW_CELLS)
    assert fewest(space, ClusteringStage.TRAINING, *ZEROS) == 0
    assert fewest(space, ClusteringStage.TRAINING, *WITHOUT) == 2
    assert fewest(space, ClusteringStage.INT8, *ZEROS) == 2


@pytest.mark.parametrize("fields", [{}, {"layers": [{"match": "x", "sparsity": {"pattern": "2:4"}}]}])
@pytest.mark.parametrize("clusters", [{"min": 2, "max": 4}, {"min": 2, "max": 2}])
def test_clusters_beside_zeros_lead_to_parameters_of_their_own_and_back(clusters, fields):
    space = by_tfmot(clustering={"clusters": clusters}, allocation=["uniform"], **FEW_CELLS, **fields)
    cells = list(space.cells())
    assert len({c.digest() for c in cells}) == len(cells) == space.size - (BASELINE not in cells)
    lengths: dict[str, set[int]] = {}
    options = space._parameters
    for cell in cells:
        assert space.ask(optuna.trial.FixedTrial(space.params_of(cell))) == cell

        def noting(name, given, cell=cell):
            lengths.setdefault(name, set()).add(tuple(given))
            return given[space.params_of(cell)[name]]

        space._choices(noting)
    assert {name: {tuple(given)} for name, given in options.items()} == lengths


def test_a_layer_with_zeros_of_its_own_gets_no_fewer_clusters_than_the_trainer_makes():
    sparse = {"match": "x", "sparsity": {"pattern": "unstructured", "level": 0.5}}
    space = by_tfmot(clustering=TWO_TO_FOUR, layers=[sparse], **FEW_CELLS)
    assert fewest(space, ClusteringStage.TRAINING, *WITHOUT) == 3
    own = {**sparse, "clustering": {"stage": "training", "clusters": 8}}
    apart = by_tfmot(clustering=TWO_TO_FOUR, layers=[own], **FEW_CELLS)
    assert fewest(apart, ClusteringStage.TRAINING, *WITHOUT) == 2
    dense = {"patterns": ["none"]}
    assert "clustering.clusters.2" in reasons(
        by_tfmot(clustering=TWO_TO_FOUR, layers=[sparse], sparsity=dense)
    )
    assert "clustering.clusters.2" not in reasons(
        by_tfmot(clustering=TWO_TO_FOUR, layers=[own], sparsity=dense)
    )


@pytest.mark.parametrize(
    ("layer_settings", "fewest_made"),
    [
        ({"sparsity": {"pattern": "2:4"}, "clustering": {"stage": "training", "clusters": 2}}, 3),
        (
            {
                "sparsity": {"pattern": "unstructured", "level": 0.5},
                "clustering": {"stage": "training", "clusters": 2},
            },
            3,
        ),
        ({"clustering": {"stage": "training", "clusters": 1}}, 2),
    ],
)
def test_clusters_of_a_layer_that_the_trainer_cannot_make_are_an_error(layer_settings, fewest_made):
    with pytest.raises(
        SpaceError,
        match=rf"layers\[0\]\.clustering\.clusters: [12]: .*tfmot.*{fewest_made} or more.*trainer: file",
    ):
        by_tfmot(layers=[{"match": "x", **layer_settings}])
    single = layer_settings["clustering"]["clusters"] == 1
    integers = {"stage": "int8", "clusters": 1 if single else 2}
    assert by_tfmot(layers=[{"match": "x", **layer_settings, "clustering": integers}]).layers


def test_two_clusters_of_one_layer_leave_out_zeros_that_it_would_share():
    two = {"match": "x", "clustering": {"stage": "training", "clusters": 2}}
    space = by_tfmot(layers=[two])
    assert space.patterns == WITHOUT
    assert "space.layers[0]" in reasons(space)["sparsity.unstructured"]
    kept = by_tfmot(layers=[{**two, "sparsity": {"pattern": "none"}}])
    assert set(ZEROS) <= set(kept.patterns)


def test_static_schemes_need_calibration():
    space = available(spec(), intake((Split.TRAIN, Split.EVALUATION)))
    assert set(space.schemes) == {Scheme.NONE, Scheme.FLOAT16, Scheme.DYNAMIC}
    for scheme in ("int8", "int16x8", "int4"):
        assert "dataset.calibration" in reasons(space)[scheme]


def test_int4_needs_an_operator_that_takes_it():
    space = available(spec(), intake(layers=[layer(operator="DEPTHWISE_CONV_2D")]))
    assert Scheme.INT4 not in space.schemes
    assert "DEPTHWISE_CONV_2D" in reasons(space)["int4"]


def test_what_no_objective_can_see_is_not_searched():
    manifest = spec([{"metric": "accuracy"}, {"metric": "latency"}, {"metric": "modelSize"}])
    space = available(manifest, intake())
    assert space.patterns == (SparsityPattern.NONE, SparsityPattern.CHANNEL)  # smaller tensors show in all
    assert space.stages == (ClusteringStage.NONE,)
    assert "downloadSize" in reasons(space)["sparsity.unstructured"]
    assert "downloadSize" in reasons(space)["clustering.int8"]


def test_what_no_objective_can_see_is_searched_when_the_manifest_asks_for_it():
    manifest = spec([{"metric": "modelSize"}], space={"sparsity": {"patterns": ["none", "2:4"]}})
    assert available(manifest, intake()).patterns == (SparsityPattern.NONE, SparsityPattern.TWO_OF_FOUR)


def test_a_device_withholds_what_its_runtime_cannot_run():
    manifest = spec(devices=[{"name": "stick", "runtime": "edgetpu"}])
    space = available(manifest, intake())
    assert space.schemes == (Scheme.INT8,)
    assert "stick (runtime edgetpu)" in reasons(space)["dynamic"]
    assert space.reference is not None
    assert space.contains(BASELINE)


def test_a_device_that_could_run_nothing_is_an_error():
    manifest = spec(devices=[{"name": "stick", "runtime": "edgetpu"}])
    with pytest.raises(SpaceError, match=r"spec\.devices.*dataset\.calibration"):
        available(manifest, intake((Split.TRAIN,)))


def test_pools_tell_their_runtime():
    space = available(spec(), intake(), {"board": Runtime.TFLM})
    assert Scheme.DYNAMIC not in space.schemes
    assert Scheme.INT8 in space.schemes


def test_a_forced_layer_that_cannot_be_is_an_error():
    manifest = spec(space={"layers": [{"match": "conv", "quantization": {"scheme": "int8"}}]})
    with pytest.raises(SpaceError, match=r"spec\.space\.layers\[0\].*dataset\.calibration"):
        available(manifest, intake((Split.TRAIN,)))


def test_a_forced_layer_that_is_to_be_trained_as_integers_needs_training():
    forced = {"match": "conv", "quantization": {"scheme": "dynamic", "training": "aware"}}
    with pytest.raises(SpaceError, match=r"layers\[0\]\.quantization\.training: aware.*dataset\.train"):
        available(_without(spec(space={"layers": [forced]}), "train"), intake((Split.CALIBRATION,)))


def test_two_of_four_needs_input_channels_in_fours():
    asked = spec(space={"sparsity": {"patterns": ["none", "unstructured", "2:4", "1x4"]}})
    space = available(asked, intake(layers=[layer(weight_shape=(8, 3, 3, 3))]))
    assert space.patterns == (SparsityPattern.NONE, SparsityPattern.UNSTRUCTURED)
    assert "multiples of four" in reasons(space)["sparsity.2:4"]
    assert "multiples of four" in reasons(space)["sparsity.1x4"]


def test_a_forced_layer_with_integer_clusters_leaves_integer_schemes():
    forced = {"match": "conv", "clustering": {"stage": "int8", "clusters": 16}}
    space = available(spec(space={"layers": [forced]}), intake())
    assert set(space.schemes) == {Scheme.DYNAMIC, Scheme.INT8, Scheme.INT16X8, Scheme.INT4}
    assert "space.layers[0]" in reasons(space)["float16"]
    floats = spec(space={"layers": [{**forced, "quantization": {"scheme": "float16"}}]})
    with pytest.raises(SpaceError, match=r"layers\[0\]\.clustering.*float16"):
        available(floats, intake())


def test_a_forced_layer_that_is_to_be_sparse_needs_training():
    forced = {"match": "conv", "sparsity": {"pattern": "2:4"}}
    with pytest.raises(SpaceError, match=r"layers\[0\]\.sparsity.*dataset\.train"):
        available(_without(spec(space={"layers": [forced]}), "train"), intake((Split.CALIBRATION,)))


def test_forced_layers_go_with_everything_but_the_baseline():
    manifest = spec(DOWNLOAD, space={"layers": [{"match": "conv", "quantization": {"scheme": "none"}}]})
    space = available(manifest, intake())
    assert all(cell.layers == manifest.space.layers for cell in space.cells())
    assert first_trials(space)[0][0] == Settings()


def test_clusters_in_the_int8_domain_go_with_integer_weights_only():
    for cell in available(spec(), intake()).cells():
        if cell.clustering.stage is ClusteringStage.INT8:
            assert cell.quantization.scheme not in (Scheme.NONE, Scheme.FLOAT16)
        if cell.clustering.stage is ClusteringStage.TRAINING and cell.quantization.scheme is Scheme.INT8:
            assert cell.quantization.granularity is Granularity.TENSOR
        if cell.quantization.scheme is Scheme.INT4:
            assert cell.clustering.clusters < 16


def test_levels_go_in_steps_of_five_percent_up_to_the_bound():
    space = available(spec(space={"sparsity": {"max": 0.3}}), intake())
    assert space.levels == (0.1, 0.15, 0.2, 0.25, 0.3)
    assert available(spec(space={"sparsity": {"max": 0.07}}), intake()).levels == (0.07,)


def test_clusters_descend_and_keep_the_ends_of_the_range():
    space = available(spec(space={"clustering": {"clusters": {"min": 5, "max": 20}}}), intake())
    assert space.clusters == (20, 16, 12, 8, 6, 5)


@pytest.mark.parametrize(
    "space",
    [
        {},
        {"quantization": {"schemes": ["int8"], "io": ["float32", "int8"]}, "sparsity": {"patterns": ["2:4"]}},
        {"quantization": {"schemes": ["none", "float16"]}, "clustering": {"stages": ["training"]}},
        {"quantization": {"schemes": ["int4", "int8"], "granularity": ["channel"]}},
        {
            "quantization": {"schemes": ["int8"], "granularity": ["tensor"]},
            "sparsity": {"patterns": ["none"]},
            "clustering": {"stages": ["none"]},
        },
    ],
)
def test_size_cells_and_parameters_agree(space):
    found = available(spec(space=space), intake())
    cells = list(found.cells())
    assert len({c.digest() for c in cells}) == len(cells)
    assert found.size == len({c.digest() for c in (*cells, BASELINE)})
    assert all(found.contains(c) for c in cells)
    rebuilt = {found.ask(optuna.trial.FixedTrial(found.params_of(c))).digest() for c in cells}
    assert rebuilt == {c.digest() for c in cells}


def test_settings_outside_the_space_are_not_contained():
    space = available(spec(space={"quantization": {"schemes": ["none", "float16"]}}), intake())
    assert not space.contains(Settings.model_validate({"quantization": {"scheme": "int8"}}))
    assert not space.contains(
        Settings.model_validate({"sparsity": {"pattern": "unstructured", "level": 0.33}})
    )
    assert space.params_of(Settings.model_validate({"quantization": {"scheme": "int8"}})) == {}


def test_the_untouched_model_is_contained_even_where_everything_else_is_quantized():
    space = available(spec(space={"quantization": {"schemes": ["int8"]}}), intake())
    assert space.contains(BASELINE)
    assert space.params_of(BASELINE) == {}


def test_every_parameter_is_an_ordered_integer_from_zero():
    space = available(spec(), intake())
    assert {type(d).__name__ for d in space.distributions.values()} == {"IntDistribution"}
    assert {d.low for d in space.distributions.values()} == {0}


def test_the_first_trials_are_baseline_reference_and_distinct_guesses():
    space = available(spec(), intake())
    first = first_trials(space)
    assert first[0] == (Settings(), "baseline")
    assert first[1] == (Settings.model_validate({"quantization": {"scheme": "int8"}}), "reference")
    assert {origin for _, origin in first[2:]} == {"prior"}
    assert 8 <= len(first) <= 11
    assert len({s.digest() for s, _ in first}) == len(first)
    assert all(space.contains(s) for s, _ in first)


def test_the_first_trials_stay_within_a_narrow_space():
    space = available(spec(space={"quantization": {"schemes": ["none"]}}), intake((Split.EVALUATION,)))
    assert [s.canonical() for s, _ in first_trials(space)] == [{}]


def test_a_device_that_needs_int8_gets_its_reference_whatever_the_manifest_forces():
    manifest = spec(
        devices=[{"name": "stick", "runtime": "edgetpu"}], space={"sparsity": {"patterns": ["2:4"]}}
    )
    first = first_trials(available(manifest, intake()))
    assert first[1] == (Settings.model_validate({"quantization": {"scheme": "int8"}}), "reference")


def test_settings_around_others_come_nearest_first_and_are_all_settings_once():
    space = available(spec(), intake())
    start = next(iter(space.cells()))
    found = list(space.around(start, order=1))
    assert found[0] == start
    assert len({s.digest() for s in found}) == len(found)
    assert {s.digest() for s in found} == {s.digest() for s in space.cells()}


def test_one_step_away_differs_in_one_parameter_or_in_what_comes_with_it():
    space = available(spec(), intake())
    start = Settings(
        quantization=Quantization(scheme=Scheme.INT8),
        sparsity=Sparsity(pattern=SparsityPattern.UNSTRUCTURED, level=0.5),
    )
    steps = [s for s in space._neighbors(start) if s.sparsity != start.sparsity and not s.rate.ratio]
    levels = {s.sparsity.level for s in steps if s.sparsity.pattern is SparsityPattern.UNSTRUCTURED}
    assert levels == {0.45, 0.55}
    assert all(s.quantization == start.quantization for s in steps)
    rated = [s for s in space._neighbors(start) if s.rate.ratio]
    assert {(s.rate.ratio, s.sparsity, s.quantization.granularity) for s in rated} == {
        (0.25, Sparsity(), Granularity.TENSOR)
    }


def test_the_order_among_neighbors_follows_from_its_seed():
    space = available(spec(), intake())
    start = next(iter(space.cells()))
    once, again, other = ([*islice(space.around(start, order=n), 50)] for n in (1, 1, 2))
    assert once == again != other


def test_weights_are_trained_as_integers_with_every_integer_scheme_and_no_other():
    cells = [s for s in available(spec(), intake()).cells() if not s.rate.ratio]
    trained = [s for s in cells if s.quantization.training is QuantizationTraining.AWARE]
    assert {s.quantization.scheme for s in trained} == set(INTEGER_SCHEMES)
    assert len(trained) == sum(s.quantization.scheme in INTEGER_SCHEMES for s in cells) / 2


@pytest.mark.parametrize(
    ("fields", "splits", "why"),
    [
        (
            {"dataset": {"evaluation": {"uri": "file:///e.npz"}}},
            [Split.CALIBRATION],
            "dataset.train is absent",
        ),
        (
            {"space": {"quantization": {"schemes": ["none", "float16"]}}},
            [*Split],
            "no integer scheme is left",
        ),
        ({"space": {"quantization": {"training": ["none"]}}}, [*Split], ""),
    ],
)
def test_training_of_integers_is_left_out_with_the_reason(fields, splits, why):
    space = available(spec(**fields), intake(splits))
    assert space.trainings == (QuantizationTraining.NONE,)
    assert why in reasons(space).get("quantization.aware", "")
    assert ("quantization.aware" in reasons(space)) == bool(why)


def test_the_first_guess_of_four_bits_is_trained_for_them_where_that_is_possible():
    def four_bits(space):
        return next(s for s, _ in first_trials(space) if s.quantization.scheme is Scheme.INT4)

    assert four_bits(available(spec(), intake())).quantization.training is QuantizationTraining.AWARE
    without = available(_without(spec(), "train"), intake((Split.CALIBRATION,)))
    assert four_bits(without) == Settings(quantization=Quantization(scheme=Scheme.INT4))


def test_budgets_of_bytes_fall_geometrically_between_the_ends_that_the_manifest_names():
    ratios = available(spec(space={"rate": {"ratio": {"min": 0.01, "max": 0.1}}}), intake()).ratios
    assert (ratios[0], ratios[-1]) == (0.1, 0.01)
    assert all(1.1 < a / b < 1.3 for a, b in pairwise(ratios))
    narrow = available(spec(space={"rate": {"ratio": {"min": 0.08, "max": 0.1}}}), intake()).ratios
    assert len(narrow) == 9
    assert available(spec(space={"rate": {"ratio": {"min": 0.05, "max": 0.05}}}), intake()).ratios == (0.05,)


def test_training_for_bytes_stands_in_place_of_sparsity_clustering_and_granularity():
    rated = [s for s in available(spec(), intake()).cells() if s.rate.ratio]
    assert {s.quantization.scheme for s in rated} == {
        Scheme.DYNAMIC, Scheme.INT8, Scheme.INT16X8, Scheme.INT4,
    }  # fmt: skip
    assert {s.sparsity.pattern for s in rated} == {SparsityPattern.NONE, SparsityPattern.CHANNEL}
    assert all(s.quantization.granularity is Granularity.TENSOR for s in rated)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"dataset": {"evaluation": {"uri": "file:///e.npz"}}}, "dataset.train is absent"),
        ({"space": {"quantization": {"schemes": ["none", "float16"]}}}, "no integer scheme is left"),
        ({"space": {"quantization": {"granularity": ["channel"]}}}, "one scale per tensor"),
        (
            {"space": {"layers": [{"match": ".", "clustering": {"stage": "int8", "clusters": 8}}]}},
            "space.layers[0] fixes some",
        ),
        ({"objectives": [{"metric": "accuracy"}, {"metric": "modelSize"}]}, "no objective is downloadSize"),
    ],
    ids=["train", "integers", "tensor", "layers", "invisible"],
)
def test_training_for_bytes_is_left_out_with_the_reason(fields, why):
    space = available(spec(**fields), intake())
    assert not space.ratios
    assert any(why in w.why for w in space.withheld if w.what == "rate.training")
