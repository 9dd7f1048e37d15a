"""What settings mean for each layer once a probe has told what each of them costs."""

import math

import pytest
from paretune_compress.layers import resolve_layers
from paretune_compress.sensitivity import Sensitivity, shares
from paretune_compress.sensitivity.effort import EFFORT, MOST_SAMPLES, plan
from paretune_compress.sensitivity.table import Cost, LayerCosts, Measure, short
from paretune_compress.sensitivity.treatments import ALL, FEWEST, Kind
from paretune_contract.dataset import Split
from paretune_contract.settings import Scheme, Settings
from support.made_layers import layer

STEM = layer("stem", shape=(8, 3, 3, 3), prunable=False, clusterable=False)
DEPTHWISE = layer(
    "depthwise", "DEPTHWISE_CONV_2D", (1, 3, 3, 64), prunable=False, clusterable=False, int4=False
)
TOUCHY, CALM = layer("touchy", shape=(32, 3, 3, 16)), layer("calm", shape=(16, 3, 3, 32))
LARGE = layer("large", shape=(64, 3, 3, 32))
LAYERS = (STEM, DEPTHWISE, TOUCHY, CALM, LARGE)
SCALES = {"touchy": 4.0, "calm": 0.02, "large": 0.5}


def costs(name: str, weights: int, scale: float, power: float = 3.0) -> LayerCosts:
    return LayerCosts(
        name=name,
        weights=weights,
        costs={
            Kind.BITS: (Cost(amount=8, cost=0.0), Cost(amount=4, cost=0.1 * scale)),
            Kind.SPARSITY: tuple(Cost(amount=a, cost=scale * a**4) for a in ALL[Kind.SPARSITY]),
            Kind.CLUSTERS: tuple(Cost(amount=k, cost=scale / k**2) for k in ALL[Kind.CLUSTERS]),
        },
        errors={Kind.SPARSITY: tuple(Cost(amount=a, cost=a**power) for a in ALL[Kind.SPARSITY])},
    )


def table(layers=LAYERS, **scales: float) -> Sensitivity:
    found = {**SCALES, **scales}
    return Sensitivity(
        measure=Measure.DIVERGENCE,
        layers=tuple(costs(x.name, x.weights, found[x.name]) for x in layers if x.name in found),
    )


def plans(model=LAYERS, found=None, tuned=False, beside_zeros=2, **fields):
    settings = Settings.model_validate({"allocation": "sensitivity", **fields})
    given = shares(settings, model, found or table(model), tuned=tuned, beside_zeros=beside_zeros)
    return {p.layer.name: p for p in resolve_layers(settings, model, given)}


def mean(plans_by_name, value, names=("touchy", "calm", "large")) -> float:
    some = [plans_by_name[n] for n in names]
    return sum(p.layer.weights * value(p) for p in some) / sum(p.layer.weights for p in some)


UNSTRUCTURED = {"pattern": "unstructured", "level": 0.6}


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 0.985])
def test_zeros_add_up_to_what_was_asked_and_lie_where_they_cost_least(level, pattern):
    found = plans(sparsity={"pattern": pattern, "level": level})
    assert mean(found, lambda p: p.zeros) == pytest.approx(level, abs=1e-5)
    assert found["touchy"].zeros <= found["large"].zeros
    assert found["touchy"].zeros <= found["calm"].zeros
    assert found["stem"].zeros == found["depthwise"].zeros == 0


def test_no_layer_is_pruned_to_less_than_a_quarter_of_what_the_mean_keeps():
    found = plans(found=table(calm=0.0), sparsity=UNSTRUCTURED)
    assert found["calm"].zeros == pytest.approx(0.9)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_where_fine_tuning_follows_the_total_holds_too_and_the_sensitive_layer_keeps_most(level):
    found = plans(tuned=True, sparsity={"pattern": "unstructured", "level": level})
    assert mean(found, lambda p: p.zeros) == pytest.approx(level, abs=1e-5)
    assert found["touchy"].zeros < found["large"].zeros <= found["calm"].zeros


def test_where_fine_tuning_follows_a_layer_whose_weights_lose_more_keeps_more():
    given = [costs("calm", CALM.weights, 1.0, power=2.0), costs("touchy", TOUCHY.weights, 1.0, power=5.0)]
    alone = tuple(x.model_copy(update={"costs": x.errors}) for x in given)
    found = Sensitivity(measure=Measure.WEIGHTS, layers=alone)
    levels = plans((CALM, TOUCHY), found, tuned=True, sparsity=UNSTRUCTURED)
    assert levels["calm"].zeros < 0.6 < levels["touchy"].zeros


def test_bits_of_clusters_add_up_and_the_sensitive_layer_gets_more_of_them():
    found = plans(quantization={"scheme": "int8"}, clustering={"stage": "int8", "clusters": 16})
    assert mean(found, lambda p: math.log2(p.clustering.clusters)) == pytest.approx(4, abs=0.1)
    assert mean(found, lambda p: math.log2(p.clustering.clusters)) <= 4
    assert found["touchy"].clustering.clusters > 16 > found["calm"].clustering.clusters
    assert all(4 <= found[n].clustering.clusters <= 64 for n in SCALES)


def few(stage="training", clusters=4, beside_zeros=3, **fields):
    """Distinct weights of each layer where the calm one has all reason to have two."""
    found = plans(
        found=table(calm=0.0),
        beside_zeros=beside_zeros,
        clustering={"stage": stage, "clusters": clusters},
        **fields,
    )
    return {n: found[n].clustering.clusters for n in SCALES}


@pytest.mark.parametrize("sparsity", [UNSTRUCTURED, {"pattern": "2:4"}])
def test_a_layer_with_zeros_gets_no_fewer_clusters_than_the_trainer_makes_beside_them(sparsity):
    assert few(sparsity=sparsity, beside_zeros=2)["calm"] == 2
    assert few(sparsity=sparsity)["calm"] == 3
    assert mean(plans(beside_zeros=3, sparsity=sparsity, clustering={"stage": "training", "clusters": 4}),
                lambda p: math.log2(p.clustering.clusters)) == pytest.approx(2, abs=0.2)  # fmt: skip


def test_two_clusters_stay_where_no_zero_is_among_them():
    assert few()["calm"] == 2
    kept = {"match": "calm", "sparsity": {"pattern": "none"}}
    assert few(sparsity=UNSTRUCTURED, layers=[kept])["calm"] == 2
    assert few("int8", sparsity=UNSTRUCTURED, quantization={"scheme": "int8"})["calm"] == 2


def test_fewer_clusters_than_the_trainer_makes_are_not_made_more_behind_its_back():
    assert few(clusters=2, sparsity=UNSTRUCTURED) == dict.fromkeys(SCALES, 2)


@pytest.mark.parametrize("bits", [4.7, 5, 6, 7, 7.9])
def test_mean_bits_are_never_above_what_was_asked_and_the_sensitive_layer_keeps_eight(bits):
    found = plans(quantization={"scheme": "int4", "bits": bits})
    assert mean(found, lambda p: 4 if p.scheme is Scheme.INT4 else 8) <= bits
    assert found["touchy"].scheme is Scheme.INT8
    assert found["calm"].scheme is Scheme.INT4 or found["large"].scheme is Scheme.INT4
    assert found["stem"].scheme is Scheme.INT8


def test_four_bit_layers_take_no_more_clusters_than_they_have_levels():
    found = plans(quantization={"scheme": "int4", "bits": 5}, clustering={"stage": "int8", "clusters": 12})
    assert {p.clustering.clusters <= 16 for p in found.values() if p.scheme is Scheme.INT4} == {True}
    assert found["touchy"].clustering.clusters > 16


def test_an_override_wins_and_the_budget_holds_for_the_other_layers():
    override = {"match": "calm", "sparsity": {"pattern": "unstructured", "level": 0.25}}
    found = plans(sparsity=UNSTRUCTURED, layers=[override])
    assert found["calm"].zeros == 0.25
    assert mean(found, lambda p: p.zeros, ("touchy", "large")) == pytest.approx(0.6, abs=1e-5)
    eight = {"match": "large", "quantization": {"scheme": "int8"}}
    kept = plans(quantization={"scheme": "int4", "bits": 5}, layers=[eight])
    assert kept["large"].scheme is Scheme.INT8
    assert mean(kept, lambda p: 4 if p.scheme is Scheme.INT4 else 8, ("touchy", "calm")) <= 5


def test_layers_that_the_probe_has_not_seen_get_what_all_would_get():
    found = plans(found=table((TOUCHY, CALM)), sparsity=UNSTRUCTURED)
    assert found["large"].zeros == 0.6
    assert mean(found, lambda p: p.zeros, ("touchy", "calm")) == pytest.approx(0.6, abs=1e-5)


def test_a_model_with_one_layer_is_treated_as_without_an_allocation():
    found = plans((LARGE,), sparsity=UNSTRUCTURED, quantization={"scheme": "int4"})
    assert found["large"].zeros == pytest.approx(0.6)
    assert found["large"].scheme is Scheme.INT4


def test_a_thin_table_gives_nearly_the_same_division_as_a_full_one():
    full = table()
    thin = full.model_copy(
        update={
            "layers": tuple(
                LayerCosts(
                    name=x.name,
                    weights=x.weights,
                    costs={k: tuple(c for c in v if c.amount in FEWEST[k]) for k, v in x.costs.items()},
                    errors=x.errors,
                )
                for x in full.layers
            )
        }
    )
    whole, part = (plans(found=t, sparsity=UNSTRUCTURED) for t in (full, thin))
    assert all(part[n].zeros == pytest.approx(whole[n].zeros, abs=0.02) for n in SCALES)


# --- how much is probed, and what is said of it -------------------------------------------------------------


def test_a_small_model_is_probed_in_full_on_as_many_samples_as_there_are():
    for available, used in ((1000, MOST_SAMPLES), (40, 40)):
        chosen = plan(10**6, [LARGE] * 5, available)
        assert (chosen.complete, chosen.samples) == (True, used)


def test_a_larger_model_is_probed_on_fewer_samples_and_a_still_larger_one_with_fewer_options():
    some, few, fewest = (plan(macs, [LARGE] * 40, 1000) for macs in (10**7, 5 * 10**7, 3 * 10**8))
    assert some.complete
    assert 64 <= some.samples < MOST_SAMPLES
    assert not few.complete
    assert few.samples >= 64
    assert fewest.amounts == FEWEST
    assert 4 <= fewest.samples < 64


def test_of_the_largest_models_weights_alone_are_compared_as_they_are_without_data():
    assert plan(10**11, [LARGE] * 100, 1000).samples == 0
    assert plan(10**6, [LARGE], 0).samples == 0


def test_a_probe_never_takes_more_than_four_times_the_effort():
    for macs in (10**5, 10**7, 10**8, 10**9, 10**10):
        for count in (1, 10, 100):
            chosen = plan(macs, [LARGE] * count, 1000)
            tried = sum(len(amounts) for amounts in chosen.amounts.values()) * count
            assert chosen.samples * tried * macs <= 4 * EFFORT


def test_the_note_names_the_extremes_and_how_they_were_found():
    found = table().model_copy(update={"samples": 240, "split": Split.CALIBRATION})
    assert found.sentence() == "least sensitive: calm, most: touchy; 240 samples of dataset.calibration"
    weights = found.model_copy(update={"measure": Measure.WEIGHTS, "complete": False})
    assert "from the weights alone" in weights.sentence()
    assert "not every option" in weights.sentence()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model/act/Relu;model/bn/FusedBatchNormV3;model/conv2d_3/BiasAdd;model/conv2d_9/Conv2D", "conv2d_3"),
        ("sequential/dense_1/MatMul;sequential/dense_1/BiasAdd", "dense_1"),
        ("functional_1/conv2d/Conv2D1", "conv2d"),
        ("digits/re_lu_6_1/Relu;digits/bn_1/batchnorm/add_1;digits/pointwise_3/convolution", "pointwise_3"),
        ("body", "body"),
        ("StatefulPartitionedCall:0;other", "StatefulPartitionedCall:0"),
    ],
)  # fmt: skip
def test_a_layer_is_called_by_its_own_name(name, words):
    assert short(name) == words
