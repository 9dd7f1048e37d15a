"""Fine-tuning of a small made model."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from paretune_compress import flatbuffer as fb
from paretune_compress.compress import compress
from paretune_contract.dataset import Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.training import Augment, Loss, Optimizer, Training
from support.made_requests import Workplace
from support.trained import by_layer

pytestmark = pytest.mark.tensorflow
SHORT = Training(epochs=4, batch_size=32, learning_rate=2e-3)
HALF = {"pattern": "unstructured", "level": 0.6}
CLUSTERS = {"stage": "training", "clusters": 6}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("work"), samples=640, train=True)


def test_fine_tuning_repairs_what_pruning_broke(workplace, capfd):
    one_shot = workplace.request({"sparsity": HALF}).model_copy(update={"training": None})
    broken = compress(one_shot).metrics["accuracy"].value
    repaired = compress(workplace.request({"sparsity": HALF}, SHORT))
    assert repaired.metrics["accuracy"].value > broken
    assert "epoch 4/4" in capfd.readouterr().out
    found = by_layer(repaired)
    assert all(found[name].zeros == pytest.approx(0.6, abs=0.001) for name in ("stem", "pointwise", "hidden"))
    assert found["depthwise"].zeros == found["last"].zeros == 0


def test_one_trained_network_serves_many_quantizations(workplace):
    trained = []
    for scheme in ("none", "float16", "dynamic", "int8", "int4"):
        settings = {"sparsity": HALF, "clustering": CLUSTERS, "quantization": {"scheme": scheme}}
        result = compress(workplace.request(settings, SHORT))
        trained.append(next(s for s in result.steps if s.name == "train-file").cached)
        for name in ("stem", "pointwise", "hidden"):
            assert by_layer(result)[name].distinct <= 6
            assert by_layer(result)[name].zeros >= 0.599
    assert trained == [False, True, True, True, True]


def test_two_of_four_holds_after_training_and_quantization(workplace):
    settings = {"sparsity": {"pattern": "2:4"}, "quantization": {"scheme": "int8"}}
    found = by_layer(compress(workplace.request(settings, SHORT)))
    assert all(found[name].two_of_four for name in ("stem", "pointwise", "hidden"))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(workplace, tmp_path):
    settings = {"sparsity": HALF, "clustering": CLUSTERS}
    training = Training(epochs=1, batch_size=64)
    shas = [
        compress(
            workplace.request(settings, training, cache=str(tmp_path / str(n)), seed=seed)
        ).artifact.sha256
        for n, seed in enumerate((3, 3, 4))
    ]
    assert shas[0] == shas[1] != shas[2]


def test_the_best_settled_epoch_is_kept_and_written_beside_its_weights(workplace):
    result = compress(workplace.request({"sparsity": HALF}, SHORT))
    sha = result.artifact.sha256
    folder = next(
        p.parent
        for p in Path(workplace.folder / "cache").rglob("history.json")
        if any(sha == s for s in [_sha(p.parent / "model.tflite")])
    )
    history = json.loads((folder / "history.json").read_text())["history"]
    assert [epoch["settled"] for epoch in history] == [False, True, True, True]
    with np.load(folder / "weights.npz", allow_pickle=False) as weights:
        model = fb.read(folder / "model.tflite")
        for name in weights.files:
            index = int(name.removeprefix("tensor"))
            np.testing.assert_array_equal(fb.constant(model, index), weights[name])


def _sha(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("loss", "optimizer"),
    list(itertools.product([Loss.DISTILLATION, Loss.MEAN_SQUARED_ERROR], Optimizer)),
)
def test_other_losses_and_optimizers_lower_the_held_out_loss(workplace, tmp_path, loss, optimizer):
    rate = 2e-3 if optimizer is Optimizer.ADAM else 2e-2
    request = workplace.request({"sparsity": {"pattern": "2:4"}}, Training(epochs=4, batch_size=32))
    data = dict(request.data)
    if loss is Loss.MEAN_SQUARED_ERROR:  # the labels become the scores themselves
        info = data[Split.TRAIN]
        scores = np.eye(3, dtype=np.float32)[np.load(Path(info.folder) / info.labels.file)]
        folder = tmp_path / "train"
        folder.mkdir()
        np.save(folder / "y.npy", scores)
        for array in info.inputs.values():
            np.save(folder / array.file, np.load(Path(info.folder) / array.file))
        labels = info.labels.model_copy(update={"file": "y.npy", "shape": scores.shape, "dtype": "float32"})
        data[Split.TRAIN] = info.model_copy(
            update={"folder": str(folder), "labels": labels, "digest": "made"}
        )
    training = request.training.model_copy(
        update={"loss": loss, "optimizer": optimizer, "learning_rate": rate,
                "distill": 1.0 if loss is Loss.DISTILLATION else 0.0}
    )  # fmt: skip
    cache = tmp_path / "cache"
    compress(request.model_copy(update={"training": training, "data": data, "cache": str(cache)}))
    history = json.loads(next(cache.rglob("history.json")).read_text())["history"]
    assert history[-1]["validation"] < history[0]["validation"]


def test_training_that_diverges_fails_with_the_learning_rate_in_its_message(workplace, tmp_path):
    info = workplace.data[Split.TRAIN]
    folder = tmp_path / "train"
    folder.mkdir()
    for array in info.inputs.values():
        values = np.load(Path(info.folder) / array.file)
        values[8:] *= 1e37
        np.save(folder / array.file, values)
    np.save(folder / info.labels.file, np.load(Path(info.folder) / info.labels.file))
    huge = info.model_copy(update={"folder": str(folder), "digest": "huge"})
    request = workplace.request({"sparsity": HALF}, SHORT)
    with pytest.raises(StageError, match="learningRate") as error:
        compress(request.model_copy(update={"data": {**request.data, Split.TRAIN: huge}}))
    assert error.value.reason is Reason.STEP_FAILED


def test_mixed_labels_teach_too(workplace):
    """Without a teacher: classes become shares of two of them."""
    mixed = Training(epochs=6, batch_size=32, learning_rate=2e-3, distill=0.0, augment=Augment(mixup=0.4))
    one_shot = workplace.request({"sparsity": HALF}).model_copy(update={"training": None})
    broken = compress(one_shot).metrics["accuracy"].value
    repaired = compress(workplace.request({"sparsity": HALF}, mixed))
    assert repaired.metrics["accuracy"].value > broken
