"""What every trainer promises: zeros, clusters and integers that stay, whichever library makes them."""

import json
import os

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress
from paretune_compress.graph.description import weighted_operators
from paretune_compress.steps.grids import GRIDS, read_grids
from paretune_contract.failure import Reason, StageError
from paretune_contract.training import Augment, Optimizer, TrainerKind, Training
from support.made_requests import Workplace
from support.trained import TRAINERS, aware, by_layer, folder_of_training, integer_weights, step, training_key

pytestmark = pytest.mark.tensorflow
HALF = {"pattern": "unstructured", "level": 0.6}
CLUSTERS = {"stage": "training", "clusters": 6}
DENSE = ("stem", "pointwise", "hidden")
both = pytest.mark.parametrize("kind", list(TrainerKind))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"), samples=640, train=True)


def by(kind, **more) -> Training:
    return Training(**{"trainer": kind, "epochs": 3, "batch_size": 32, "learning_rate": 1e-3, **more})


# --- floats ------------------------------------------------------------------------------------------------


@both
def test_fine_tuning_repairs_what_pruning_broke_and_zeros_are_as_many_as_asked(workplace, kind):
    one_shot = workplace.request({"sparsity": HALF}).model_copy(update={"training": None})
    broken = compress(one_shot).metrics["accuracy"].value
    request = workplace.request({"sparsity": HALF}, by(kind))
    result = compress(request)
    assert result.metrics["accuracy"].value > broken
    assert step(result, TRAINERS[kind].name).note.startswith("epoch ")
    found = by_layer(result)
    assert all(found[name].zeros == pytest.approx(0.6, abs=0.002) for name in DENSE)
    assert found["depthwise"].zeros == found["last"].zeros == 0
    folder = folder_of_training(request)
    history = json.loads((folder / "history.json").read_text())["history"]
    assert [epoch["settled"] for epoch in history] == [False, True, True]
    with np.load(folder / "weights.npz", allow_pickle=False) as weights:
        model = fb.read(folder / "model.tflite")
        for name in weights.files:
            np.testing.assert_array_equal(fb.constant(model, int(name.removeprefix("tensor"))), weights[name])


@both
def test_each_layer_has_the_share_of_zeros_that_its_plan_says(workplace, kind):
    settings = {
        "sparsity": HALF,
        "layers": [
            {"match": "^stem$", "sparsity": {"pattern": "2:4"}},
            {"match": "^hidden$", "sparsity": {"pattern": "unstructured", "level": 0.8}},
        ],
    }
    found = by_layer(compress(workplace.request(settings, by(kind, epochs=2))))
    zeros = {name: round(found[name].zeros, 2) for name in DENSE}
    assert zeros == {"stem": 0.5, "pointwise": 0.6, "hidden": 0.8}
    assert found["stem"].two_of_four


@both
def test_clusters_and_zeros_hold_together_in_every_quantization_of_one_trained_network(workplace, kind):
    trained = []
    for scheme in ("none", "dynamic", "int8", "int4"):
        settings = {"sparsity": HALF, "clustering": CLUSTERS, "quantization": {"scheme": scheme}}
        result = compress(workplace.request(settings, by(kind)))
        trained.append(step(result, TRAINERS[kind].name).cached)
        for name in DENSE:
            assert 1 < by_layer(result)[name].distinct <= 6
            assert by_layer(result)[name].zeros >= 0.599
    assert trained == [False, True, True, True]


@both
def test_a_layer_that_is_pruned_keeps_its_zeros_while_another_is_clustered(workplace, kind):
    settings = {"sparsity": HALF, "layers": [{"match": "^hidden$", "sparsity": {}, "clustering": CLUSTERS}]}
    found = by_layer(compress(workplace.request(settings, by(kind))))
    assert found["hidden"].distinct <= 6
    assert found["hidden"].zeros < 0.5
    assert all(found[name].zeros == pytest.approx(0.6, abs=0.002) for name in ("stem", "pointwise"))


@both
def test_channels_that_were_removed_are_learned_around(workplace, kind):
    settings = {"sparsity": {"pattern": "channel", "level": 0.25}}
    untrained = compress(workplace.request(settings).model_copy(update={"training": None}))
    result = compress(workplace.request(settings, by(kind)))
    assert result.metrics["accuracy"].value > untrained.metrics["accuracy"].value
    assert step(result, TRAINERS[kind].name)


@both
def test_momentum_and_changed_samples_train_as_well(workplace, kind, tmp_path):
    training = by(kind, epochs=4, optimizer=Optimizer.SGD, learning_rate=1e-2, augment=Augment(mixup=1.0))
    request = workplace.request({"sparsity": {"pattern": "2:4"}}, training, cache=str(tmp_path))
    compress(request)
    history = json.loads((folder_of_training(request) / "history.json").read_text())["history"]
    assert history[-1]["validation"] < history[0]["validation"]


# --- integers ----------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_the_file_holds_the_very_integers_that_were_trained(workplace, kind, scheme, granularity):
    request = workplace.request(aware(scheme, granularity), by(kind))
    result = compress(request)
    folder = folder_of_training(request)
    grids, trained = read_grids(folder / GRIDS), fb.read(folder / "model.tflite")
    floats = weighted_operators(trained)
    assert len(grids) == len(floats) == len(result.inspection.tensors)
    for before, (integers, scales, tensor) in zip(floats, integer_weights(result.artifact.path), strict=True):
        weights = fb.constant(trained, before.tensors[0])
        assert np.array_equal((integers * scales.astype(np.float64)).astype(np.float32), weights)
        assert np.array_equal(fb.scales(tensor), grids[before.tensors[0]].astype(np.float32))
        most = 7 if fb.type_name(tensor) == "INT4" else 127
        assert most / 2 < np.abs(integers).max() <= most
        channels = weights.shape[-1 if before.operator == "DEPTHWISE_CONV_2D" else 0]
        assert len(fb.scales(tensor)) == (channels if granularity == "channel" else 1)
    assert result.metrics["accuracy"].value > 0.6


@both
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_zeros_and_clusters_become_as_many_integers(workplace, kind, scheme):
    request = workplace.request(aware(scheme, sparsity=HALF, clustering=CLUSTERS), by(kind))
    result = compress(request)
    weights = [integers for integers, _, _ in integer_weights(result.artifact.path)]
    for layer, integers in zip(result.inspection.tensors, weights, strict=True):
        if layer.layer in DENSE:
            values = np.unique(integers)
            assert 1 < len(values) <= 6
            assert 0 in values
            assert layer.zeros >= 0.599
            assert layer.scales == 1


@both
def test_zeros_stay_zeros_while_integers_are_trained_and_layers_without_any_change_nothing(workplace, kind):
    settings = aware(sparsity=HALF, layers=[{"match": "^stem$", "sparsity": {}}])
    found = by_layer(compress(workplace.request(settings, by(kind))))
    assert found["stem"].zeros < 0.2
    assert all(found[name].zeros >= 0.599 and found[name].scales > 1 for name in ("pointwise", "hidden"))


@both
def test_clusters_alone_become_as_many_integers(workplace, kind):
    found = by_layer(compress(workplace.request(aware(clustering=CLUSTERS), by(kind))))
    assert all(1 < found[name].distinct <= 6 for name in DENSE)
    assert found["depthwise"].distinct > 6


@both
def test_an_override_trains_the_integers_of_its_layers_alone(workplace, kind):
    settings = {
        "quantization": {"scheme": "int8"},
        "sparsity": HALF,
        "layers": [{"match": "^pointwise$", "quantization": {"scheme": "int4", "training": "aware"}}],
    }
    request = workplace.request(settings, by(kind))
    result = compress(request)
    layer = next(one for one in request.model.layers if one.name == "pointwise")
    assert set(read_grids(folder_of_training(request) / GRIDS)) == {layer.weight_tensor}
    found = by_layer(result)
    assert {name: t.dtype for name, t in found.items() if t.dtype != "INT8"} == {"pointwise": "INT4"}
    assert all(found[name].zeros >= 0.599 for name in DENSE)


@both
@pytest.mark.parametrize("scheme", ["none", "int8"])
def test_clusters_and_zeros_hold_in_layers_beside_one_whose_integers_are_trained(workplace, kind, scheme):
    settings = {
        "quantization": {"scheme": scheme},
        "sparsity": HALF,
        "clustering": CLUSTERS,
        "layers": [{"match": "^stem$", "quantization": {"scheme": "int8", "training": "aware"}}],
    }
    found = by_layer(compress(workplace.request(settings, by(kind))))
    assert all(1 < found[name].distinct <= 6 for name in DENSE)
    assert all(found[name].zeros >= 0.599 for name in DENSE)
    assert found["stem"].dtype == "INT8"
    assert found["hidden"].dtype == ("INT8" if scheme == "int8" else "FLOAT32")


@pytest.mark.parametrize("kind", [TrainerKind.TFMOT])
def test_an_allocation_asks_tfmot_for_no_clusters_that_it_cannot_make(workplace, kind):
    settings = {
        "sparsity": HALF,
        "clustering": {"stage": "training", "clusters": 3},
        "allocation": "sensitivity",
    }
    found = by_layer(compress(workplace.request(settings, by(kind, epochs=1))))
    assert {found[name].distinct for name in DENSE} == {3}


# --- what is trained anew ----------------------------------------------------------------------------------


@both
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(workplace, tmp_path, kind):
    settings = aware("int8", sparsity=HALF, clustering=CLUSTERS)
    shas = [
        compress(
            workplace.request(settings, by(kind, epochs=1), cache=str(tmp_path / str(n)), seed=seed)
        ).artifact.sha256
        for n, seed in enumerate((3, 3, 4))
    ]
    assert shas[0] == shas[1] != shas[2]


def test_the_trainer_tells_networks_apart_and_leaves_those_of_the_other_as_they_were_known(workplace):
    file, tfmot = (training_key(workplace.request({"sparsity": HALF}, by(kind))) for kind in TrainerKind)
    assert file == training_key(workplace.request({"sparsity": HALF}, by(TrainerKind.FILE)))
    assert "trainer" not in file
    assert "tool" not in file
    assert tfmot.pop("tool").startswith("tensorflow-model-optimization ")
    assert tfmot == file


def test_eight_bits_of_activations_are_trained_with_where_the_file_has_them(workplace):
    keys = {
        s: training_key(workplace.request(aware(s), by(TrainerKind.TFMOT)))
        for s in ("int8", "int16x8", "dynamic")
    }
    assert keys["int16x8"] == keys["dynamic"] != keys["int8"]
    assert {s: k["activations"] for s, k in keys.items()} == {
        "int8": True, "int16x8": False, "dynamic": False,
    }  # fmt: skip


# --- what tfmot cannot do ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sparsity": {"pattern": "1x4", "level": 0.5}}, r"sparsity\.pattern is 1x4.*unstructured or 2:4"),
        ({"clustering": {"stage": "training", "clusters": 1}}, r"clustering\.clusters is 1.*makes 2 or more"),
        (
            {"sparsity": HALF, "clustering": {"stage": "training", "clusters": 2}},
            r"clustering\.clusters is 2.*3 or more in a sparse layer",
        ),
    ],
)
def test_what_it_cannot_do_is_said_with_the_layer_and_a_way_out(workplace, settings, words):
    with pytest.raises(StageError, match=words) as caught:
        compress(workplace.request(settings, by(TrainerKind.TFMOT)))
    assert caught.value.reason is Reason.STEP_FAILED
    assert caught.value.message.endswith("training.trainer: file")


def test_too_few_steps_to_prune_in_are_refused(tmp_path):
    small = Workplace(tmp_path, samples=40, train=True)
    training = by(TrainerKind.TFMOT, epochs=1)
    with pytest.raises(StageError, match=r"1 step\(s\), too few to prune in.*training\.epochs"):
        compress(small.request({"sparsity": HALF}, training))


def test_the_process_keeps_the_keras_that_it_has(workplace):
    import tensorflow as tf

    compress(workplace.request({"sparsity": HALF}, by(TrainerKind.TFMOT)))
    assert tf.keras.version().startswith("3.")
    assert "TF_USE_LEGACY_KERAS" not in os.environ
