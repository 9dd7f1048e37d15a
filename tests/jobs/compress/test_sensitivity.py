"""The probe on small made models in LiteRT, and whole chains that are allocated by it."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress, splits_to_read
from paretune_compress.data import PreparedSplit
from paretune_compress.intake.stage import intake_stage
from paretune_compress.quality.model import EvaluatedModel
from paretune_compress.sensitivity import Sensitivity, probe, shares
from paretune_compress.sensitivity.distance import distance
from paretune_compress.sensitivity.table import Measure
from paretune_compress.sensitivity.treatments import ALL, Kind
from paretune_contract.dataset import DataRequest, Scaling, Split
from paretune_contract.stages import IntakeRequest
from paretune_contract.training import Training
from paretune_store.known_steps import KnownSteps
from support.made_networks import Network
from support.made_requests import Workplace

PRUNED = ("stem", "pointwise", "hidden")
HALF = {"sparsity": {"pattern": "unstructured", "level": 0.5}, "allocation": "sensitivity"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"))


def two_branches(folder: Path, *, probabilities: bool, tied: bool = False) -> Path:
    """64 -> two dense layers of 32 -> dense 3, which hears a hundredth of the second one."""
    net = Network(seed=3)
    x = net.input("x", (1, 64))
    loud, quiet = net.dense("loud", x, 32), net.dense("quiet", x, 32)
    last = net.dense("last", net.concat("both", loud, quiet), 3, act=0)
    weights = net.get("last/w")
    weights[:, :32] *= 4
    weights[:, 32:] /= 100
    net.set("last/w", weights)
    if tied:  # as converters leave equal constants
        tensors = net.graph.tensors
        tensors[net.index("quiet/w")].buffer = tensors[net.index("loud/w")].buffer
    net.output(net.softmax("scores", last) if probabilities else last)
    return net.save(folder / "branches.tflite")


def intake_of(path: Path, folder: Path, samples: int = 80):
    """The model and made calibration data, through the intake of a study."""
    data = folder / "calibration.npz"
    np.savez(data, x=np.random.default_rng(5).normal(0, 1, (samples, 64)).astype(np.float32))
    request = IntakeRequest(
        model_uri=str(path),
        dataset={Split.CALIBRATION: DataRequest(uri=str(data))},
        cache=str(folder / "cache"),
    )
    found = intake_stage(request)
    assert found.model is not None
    return found.model, found.data


def probed(path: Path, folder: Path) -> Sensitivity:
    model, data = intake_of(path, folder)
    before = Path(model.path).read_bytes()
    table = probe(model, PreparedSplit(data[Split.CALIBRATION], Scaling()), folder, threads=1)
    assert Path(model.path).read_bytes() == before
    return table


@pytest.mark.parametrize("probabilities", [True, False])
def test_a_layer_that_the_outputs_hang_on_costs_more_than_one_that_they_hardly_hear(tmp_path, probabilities):
    table = probed(two_branches(tmp_path, probabilities=probabilities), tmp_path)
    loud, quiet = (table.of_layer(name) for name in ("loud", "quiet"))
    for kind in Kind:
        pairs = list(zip(loud.costs[kind], quiet.costs[kind], strict=True))
        assert all(a.cost >= b.cost for a, b in pairs)
        assert pairs[-1][0].cost > 100 * pairs[-1][1].cost
    assert table.sentence() == "least sensitive: quiet, most: loud; 80 samples of dataset.calibration"
    assert table.of_layer("last") is None  # of 192 weights: left alone


def test_a_stronger_treatment_never_costs_less_and_every_option_is_there(tmp_path):
    table = probed(two_branches(tmp_path, probabilities=True), tmp_path)
    assert (table.measure, table.complete, table.samples) == (Measure.DIVERGENCE, True, 80)
    for layer in table.layers:
        for kind in Kind:
            assert tuple(c.amount for c in layer.costs[kind]) == ALL[kind]
            costs = [c.cost for c in layer.costs[kind]]
            assert costs == sorted(costs)
    assert 0 < table.of_layer("loud").zeros().cost(0.5) < table.of_layer("loud").zeros().cost(0.9)


def test_layers_that_share_their_weights_in_the_file_are_treated_one_at_a_time(tmp_path):
    table = probed(two_branches(tmp_path, probabilities=True, tied=True), tmp_path)
    strongest = {x.name: x.costs[Kind.SPARSITY][-1].cost for x in table.layers}
    assert strongest["loud"] > 100 * strongest["quiet"] > 0


def test_without_data_the_weights_themselves_are_compared(workplace, tmp_path):
    table = probe(workplace.model, None, tmp_path, threads=1)
    assert (table.measure, table.samples, table.split) == (Measure.WEIGHTS, 0, None)
    assert {x.name for x in table.layers} == set(PRUNED)
    assert all(0 < x.zeros().cost(0.5) < x.zeros().cost(0.98) <= 1 for x in table.layers)


# --- whole chains -------------------------------------------------------------------------------------------


def weights(result, workplace, names=PRUNED):
    """(weights, inspection) of some layers."""
    sizes = {x.name: x.weights for x in workplace.model.layers}
    return [(sizes[t.layer], t) for t in result.inspection.tensors if t.layer in names]


def mean(result, workplace, value, names=PRUNED):
    found = weights(result, workplace, names)
    return sum(n * value(t) for n, t in found) / sum(n for n, _ in found)


def zeros(result, workplace, names=PRUNED):
    """Share of the float model's weights that are zero, or gone with a channel that had become dead."""
    found = weights(result, workplace, names)
    return 1 - sum((1 - t.zeros) * t.weights for _, t in found) / sum(n for n, _ in found)


def names_of(result, cached=None):
    return [s.name for s in result.steps if cached is None or s.cached is cached]


def test_a_chain_begins_with_the_probe_and_the_file_has_the_zeros_that_were_asked(workplace):
    result = compress(workplace.request(HALF))
    assert names_of(result)[:2] == ["probe", "prune"]
    assert "least sensitive: " in result.steps[0].note
    assert zeros(result, workplace) == pytest.approx(0.5, abs=0.001)
    levels = [zeros(result, workplace, (name,)) for name in PRUNED]
    assert max(levels) - min(levels) > 0.05


def test_zeros_that_were_allocated_change_the_outputs_less_than_as_many_zeros_alike(workplace, tmp_path):
    model, data = intake_of(two_branches(tmp_path, probabilities=True), tmp_path)
    x = {"x": np.random.default_rng(6).normal(0, 1, (200, 64)).astype(np.float32)}
    reference = EvaluatedModel(Path(model.path), 1)(x)
    changed = {}
    for allocation in ("uniform", "sensitivity"):
        request = workplace.request({**HALF, "allocation": allocation}, metrics=())
        result = compress(request.model_copy(update={"model": model, "data": data}))
        changed[allocation] = distance(reference, EvaluatedModel(Path(result.artifact.path), 1)(x))
        kept = sum(round((1 - t.zeros) * t.weights) for t in result.inspection.tensors if t.layer != "last")
        assert kept == pytest.approx(2048, abs=2)
    assert changed["sensitivity"] < changed["uniform"] / 4


def test_the_probe_is_done_once_for_all_settings_and_again_for_other_inputs(tmp_path):
    place = Workplace(tmp_path)
    first = compress(place.request(HALF))
    assert "probe" in names_of(first, cached=False)
    other = {
        "quantization": {"scheme": "int8"},
        "clustering": {"stage": "int8", "clusters": 8},
        "allocation": "sensitivity",
    }
    assert "probe" in names_of(compress(place.request(other)), cached=True)
    assert "probe" not in names_of(compress(place.request({**HALF, "allocation": "uniform"})))
    scaled = place.request(HALF, scaling=Scaling(scale=0.5))
    assert "probe" in names_of(compress(scaled), cached=False)


def test_a_mix_of_four_and_eight_bits_has_at_most_the_mean_that_was_asked(workplace):
    for bits in (5.0, 6.0, 7.0):
        settings = {"quantization": {"scheme": "int4", "bits": bits}, "allocation": "sensitivity"}
        result = compress(workplace.request(settings))
        found = mean(result, workplace, lambda t: {"INT4": 4, "INT8": 8}[t.dtype])
        assert bits - 4 * 2048 / 3648 <= found <= bits  # nearer only as layers allow; the largest has 2,048
        assert set(result.inspection.dtypes) == {"INT4", "INT8"}


def test_clusters_that_were_allocated_have_the_mean_of_bits_that_was_asked(workplace):
    settings = {
        "quantization": {"scheme": "int8", "granularity": "tensor"},
        "clustering": {"stage": "int8", "clusters": 8},
        "allocation": "sensitivity",
    }
    result = compress(workplace.request(settings))
    assert mean(result, workplace, lambda t: np.log2(t.distinct)) == pytest.approx(3, abs=0.15)
    assert len({t.distinct for _, t in weights(result, workplace)}) > 1


def test_an_override_wins_over_the_allocation_and_the_rest_keeps_its_mean(workplace):
    layers = [{"match": "hidden", "sparsity": {"pattern": "unstructured", "level": 0.7}}]
    result = compress(workplace.request({**HALF, "layers": layers}))
    assert zeros(result, workplace, ("hidden",)) == pytest.approx(0.7, abs=0.001)
    assert zeros(result, workplace, ("stem", "pointwise")) == pytest.approx(0.5, abs=0.001)


def test_equal_requests_give_equal_bytes_in_another_cache(workplace, tmp_path):
    settings = {**HALF, "quantization": {"scheme": "int8"}}
    here, there = compress(workplace.request(settings)), compress(Workplace(tmp_path).request(settings))
    assert here.artifact.sha256 == there.artifact.sha256


@pytest.mark.tensorflow
def test_fine_tuning_holds_the_zeros_that_were_allocated_to_each_layer(tmp_path):
    place = Workplace(tmp_path, samples=192, train=True)
    settings = {**HALF, "quantization": {"scheme": "int8"}}
    request = place.request(settings, Training(epochs=4, batch_size=32))
    result = compress(request)
    assert "train-file" in names_of(result)
    assert zeros(result, place) == pytest.approx(0.5, abs=0.03)
    (file,) = Path(request.cache).glob("steps/*/*/sensitivity.json")
    table = Sensitivity.model_validate_json(file.read_text())
    layers = place.model.layers
    given = shares(request.settings, layers, table, tuned=True)
    levels = {layers[i].name: share.level for i, share in given.items()}
    assert set(levels) == set(PRUNED)
    for name in PRUNED:
        assert zeros(result, place, (name,)) == pytest.approx(levels[name], abs=0.05)


# --- pods that download only what they need -----------------------------------------------------------------


def known(request, cache: Path):
    return splits_to_read(request, KnownSteps(cache, lambda _: None))


def test_a_pod_without_the_probe_downloads_its_data_and_all_that_later_steps_may_read(tmp_path):
    (tmp_path / "work").mkdir()
    place = Workplace(tmp_path / "work", samples=64, train=True)
    request = place.request({**HALF, "quantization": {"scheme": "int8"}}, Training(epochs=1))
    assert known(request, tmp_path / "empty") == {Split.CALIBRATION, Split.TRAIN, Split.EVALUATION}
    float_only = place.request(HALF, Training(epochs=1), metrics=())
    assert known(float_only, tmp_path / "empty") == {Split.CALIBRATION, Split.TRAIN}
    untrained = request.model_copy(update={"training": None, "data": _without(place, Split.CALIBRATION)})
    assert known(untrained.model_copy(update={"settings": float_only.settings}), tmp_path / "empty") == {
        Split.TRAIN, Split.EVALUATION,
    }  # fmt: skip


def test_a_pod_that_has_the_probe_downloads_what_the_other_steps_read_and_at_last_nothing(tmp_path):
    place = Workplace(tmp_path)
    cache = Path(place.request({}).cache)
    compress(place.request(HALF, metrics=()))
    eight = {"quantization": {"scheme": "int8"}}
    assert known(place.request({**HALF, **eight}), cache) == {Split.CALIBRATION, Split.EVALUATION}
    assert known(place.request({**HALF, "quantization": {"scheme": "dynamic"}}), cache) == {Split.EVALUATION}
    assert known(place.request(HALF, metrics=()), cache) == set()
    compress(place.request({**HALF, **eight}))
    assert known(place.request({**HALF, **eight}), cache) == set()


def _without(place: Workplace, split: Split):
    return {s: info for s, info in place.data.items() if s is not split}


def test_the_file_of_the_probe_is_gone_and_its_table_is_all_that_is_kept(tmp_path):
    place = Workplace(tmp_path)
    compress(place.request(HALF))
    (table,) = Path(place.request({}).cache).glob("steps/*/*/sensitivity.json")
    assert {f.name for f in table.parent.iterdir()} == {"sensitivity.json", "entry.json"}
    assert {x.name for x in Sensitivity.model_validate_json(table.read_text()).layers} == set(PRUNED)
    assert hashlib.sha256(place.path.read_bytes()).hexdigest() == place.model.sha256
    assert fb.read(place.path).subgraphs
