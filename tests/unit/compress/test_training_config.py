import pytest
from paretune_compress.train.config import EPOCH_BUDGET, default_epochs, epoch_seconds, resolve_training
from paretune_compress.train.schedule import Schedule, hold_out
from paretune_contract.dataset import ArrayInfo, DataInfo, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import ModelInfo, SourceFormat, TensorInfo
from paretune_contract.training import Loss, Optimizer, TrainerKind, Training
from support.made_layers import layer


def model(output=(1, 10), inputs=(1, 8, 8, 1), **values) -> ModelInfo:
    return ModelInfo(
        **{
            "uri": "m.keras", "format": SourceFormat.KERAS, "source_sha256": "0", "path": "/m", "sha256": "0",
            "bytes": 1, "layers": (layer("body"),), "parameters": 1, "macs": 10**6,
            "inputs": (TensorInfo(name="x", shape=inputs, dtype="float32"),),
            "outputs": (TensorInfo(name="y", shape=output, dtype="float32"),), **values,
        }
    )  # fmt: skip


def data(labels=(), samples=5000) -> dict[Split, DataInfo]:
    """A training split; `labels` is the shape of one label, None for no labels."""
    array = None if labels is None else ArrayInfo(file="y.npy", shape=(samples, *labels), dtype="int64")
    info = DataInfo(
        split=Split.TRAIN, uri="train.npz", folder="/d", digest="0", samples=samples,
        inputs={"x": ArrayInfo(file="x.npy", shape=(samples, 8, 8, 1), dtype="uint8")}, labels=array,
    )  # fmt: skip
    return {Split.TRAIN: info}


def resolved(given=None, m=None, d=None, metrics=("accuracy",)):
    return resolve_training(given or Training(), m or model(), data() if d is None else d, metrics)


def test_without_training_data_or_with_an_untrainable_operator_there_is_no_training():
    assert resolved(d={}) is None
    assert resolved(m=model(untrainable=("FLOOR",))) is None


def test_the_manifest_wins_and_says_so():
    given = Training(
        epochs=3, batch_size=7, optimizer=Optimizer.SGD, learning_rate=0.5, loss=Loss.DISTILLATION
    )
    found = resolved(given, model(compile_config={"loss": "mse", "optimizer": "adam", "learningRate": 0.1}))
    assert (found.epochs, found.batch_size, found.optimizer, found.learning_rate) == (
        3,
        7,
        Optimizer.SGD,
        0.5,
    )
    assert (found.loss, found.distill) == (Loss.DISTILLATION, 1.0)
    assert {found.origin[k] for k in ("epochs", "batchSize", "optimizer", "learningRate", "loss")} == {
        "manifest"
    }


def test_the_file_itself_is_trained_unless_the_manifest_names_another_trainer():
    assert resolved().trainer is TrainerKind.FILE
    assert resolved(Training(trainer=TrainerKind.TFMOT)).trainer is TrainerKind.TFMOT


def test_then_the_models_own_configuration_with_a_lower_learning_rate():
    own = {"loss": "sparse_categorical_crossentropy", "optimizer": "SGD", "learningRate": 0.02}
    found = resolved(m=model(compile_config=own))
    assert (found.loss, found.optimizer) == (Loss.CATEGORICAL_CROSSENTROPY, Optimizer.SGD)
    assert found.learning_rate == pytest.approx(0.006)
    assert found.origin["loss"] == "model"


@pytest.mark.parametrize(
    ("output", "labels", "metrics", "loss"),
    [
        ((1, 10), (), ("accuracy",), Loss.CATEGORICAL_CROSSENTROPY),
        ((1, 1), (), ("accuracy",), Loss.BINARY_CROSSENTROPY),
        ((1, 3), (3,), ("meanSquaredError",), Loss.MEAN_SQUARED_ERROR),
        ((1, 64), None, ("rocAuc",), Loss.MEAN_SQUARED_ERROR),
        ((1, 10), None, ("agreement",), Loss.DISTILLATION),
    ],
)
def test_else_the_loss_follows_from_output_labels_and_metric(output, labels, metrics, loss):
    assert resolved(m=model(output), d=data(labels), metrics=metrics).loss is loss


def test_a_loss_that_the_labels_cannot_feed_is_refused():
    with pytest.raises(StageError, match=r"training.loss is categoricalCrossentropy.*no labels") as error:
        resolved(Training(loss=Loss.CATEGORICAL_CROSSENTROPY), d=data(None))
    assert error.value.reason is Reason.DATA_MISMATCH


@pytest.mark.parametrize("macs", [10**4, 10**7, 10**9, 10**11])
@pytest.mark.parametrize("samples", [10, 5000, 10**6])
def test_epochs_fit_the_budget_and_there_is_always_one(samples, macs):
    epochs = default_epochs(samples, 64, macs, 10**5)
    assert epochs >= 1
    assert epochs == 1 or epochs * epoch_seconds(samples, 64, macs, 10**5) <= EPOCH_BUDGET


@pytest.mark.parametrize("prunes", [True, False])
@pytest.mark.parametrize("clusters", [True, False])
@pytest.mark.parametrize("quantizes", [True, False])
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 7), (5, 70)])
def test_the_last_epoch_always_has_settled_weights(epochs, steps, prunes, clusters, quantizes):
    plan = Schedule.plan(
        epochs=epochs, steps_per_epoch=steps, prunes=prunes, clusters=clusters, quantizes=quantizes
    )
    assert plan.settled <= epochs * steps
    assert (plan.quantize_at is not None) == quantizes
    # Half of all steps see integers, in the masks and clusters that are kept.
    assert not quantizes or plan.ramp <= plan.quantize_at == plan.settled <= epochs * steps / 2
    assert plan.mask_update(plan.ramp) == 1.0
    assert plan.mask_update(plan.ramp + 1) is None
    assert (plan.cluster_at is not None) == clusters
    assert not clusters or plan.cluster_at >= plan.ramp


def test_held_out_samples_are_no_training_samples_and_depend_on_the_seed_alone():
    train, held = hold_out(100, 0.1, 4)
    assert (len(train), len(held)) == (90, 10)
    assert not set(train) & set(held)
    assert hold_out(100, 0.1, 4)[1].tolist() == held.tolist()
    assert hold_out(100, 0.1, 5)[1].tolist() != held.tolist()


def test_one_sample_cannot_be_divided():
    with pytest.raises(StageError, match="1 sample"):
        hold_out(1, 0.1, 0)
