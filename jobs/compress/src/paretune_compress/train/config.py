"""Every training setting with a value: the manifest's, else the model's own, else a stated default."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from paretune_contract.dataset import DataInfo, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.measurement import MEAN_SQUARED_ERROR, ROC_AUC
from paretune_contract.model import ModelInfo
from paretune_contract.training import Loss, Optimizer, ResolvedTraining, Training

EPOCH_BUDGET = 25.0
"""Seconds that one fine-tuning may take on one core, by the estimate below."""
MACS_PER_SECOND = 4.5e10
"""Multiply-accumulates of a training step on one core; measured on convolutions of small models."""
SECONDS_PER_STEP = 0.006
SECONDS_PER_WEIGHT = 1.5e-8
"""Of a step, for the optimizer."""
PASSES = 3
"""A step costs about three forward passes: one forward, two backward."""
MAX_EPOCHS = 12
FINE_TUNING = 0.3
"""Fine-tuning takes this share of the rate at which the model was trained."""
RATES = {Optimizer.ADAM: (4e-4, 1e-3), Optimizer.SGD: (4e-3, 1e-2)}
"""Default and highest default peak learning rate."""
SPENT = 10
"""A saved rate this many times below the default is what a schedule had come down to, not where it began."""
CLASSES = {Loss.CATEGORICAL_CROSSENTROPY, Loss.BINARY_CROSSENTROPY}
_LOSSES = {
    "categoricalcrossentropy": Loss.CATEGORICAL_CROSSENTROPY,
    "sparsecategoricalcrossentropy": Loss.CATEGORICAL_CROSSENTROPY,
    "binarycrossentropy": Loss.BINARY_CROSSENTROPY,
    "meansquarederror": Loss.MEAN_SQUARED_ERROR,
    "mse": Loss.MEAN_SQUARED_ERROR,
}
_OPTIMIZERS = {
    "adam": Optimizer.ADAM,
    "adamw": Optimizer.ADAM,
    "nadam": Optimizer.ADAM,
    "adamax": Optimizer.ADAM,
    "sgd": Optimizer.SGD,
    "momentum": Optimizer.SGD,
}


def resolve_training(
    training: Training, model: ModelInfo, data: Mapping[Split, DataInfo], metrics: Sequence[str]
) -> ResolvedTraining | None:
    """How fine-tuning will be done; None where there is nothing to train, or nothing to train with.

    Args:
        training: what the manifest says.
        model: the normalised model.
        data: the prepared splits.
        metrics: quality metrics of the objectives.

    Raises:
        StageError: DATA_MISMATCH when the manifest's loss cannot be computed from the labels.
    """
    train = data.get(Split.TRAIN)
    if train is None or model.untrainable or not any(layer.trainable for layer in model.layers):
        return None
    origin: dict[str, str] = {}
    loss = _loss(training, model, train, metrics, origin)
    optimizer = _optimizer(training, model, origin)
    batch = _chosen("batchSize", training.batch_size, _batch_size(train.samples), "from the samples", origin)
    rate = _learning_rate(training, model, optimizer, origin)
    distill = _distill(training, loss, origin)
    epochs = training.epochs
    if epochs is None:
        each = epoch_seconds(train.samples, batch, model.macs, model.parameters)
        epochs = default_epochs(train.samples, batch, model.macs, model.parameters)
        origin["epochs"] = f"default: about {each:.1f} s an epoch on one core"
    else:
        origin["epochs"] = "manifest"
    return ResolvedTraining(
        trainer=training.trainer,
        epochs=epochs,
        batch_size=batch,
        optimizer=optimizer,
        learning_rate=rate,
        loss=loss,
        distill=distill,
        augment=training.augment,
        origin=origin,
    )


def epoch_seconds(samples: int, batch_size: int, macs: int, parameters: int) -> float:
    """Estimated seconds of one epoch on one core."""
    steps = math.ceil(samples / batch_size)
    each = SECONDS_PER_STEP + parameters * SECONDS_PER_WEIGHT
    return steps * each + samples * macs * PASSES / MACS_PER_SECOND


def default_epochs(samples: int, batch_size: int, macs: int, parameters: int) -> int:
    """As many epochs as the budget of one fine-tuning holds, from 1 to 12."""
    each = epoch_seconds(samples, batch_size, macs, parameters)
    return max(1, min(MAX_EPOCHS, int(EPOCH_BUDGET / each)))


def _chosen(field: str, given: Any, default: Any, why: str, origin: dict[str, str]) -> Any:
    origin[field] = "manifest" if given is not None else f"default: {why}"
    return default if given is None else given


def _batch_size(samples: int) -> int:
    """A power of two from 16 to 128 that leaves an epoch some fifty steps where it can."""
    exponent = min(7, max(4, int(math.log2(max(samples / 50, 1)))))
    return 1 << exponent


def _loss(  # noqa: PLR0911 - a checklist
    training: Training,
    model: ModelInfo,
    train: DataInfo,
    metrics: Sequence[str],
    origin: dict[str, str],
) -> Loss:
    if training.loss is not None:
        origin["loss"] = "manifest"
        _must_fit(training.loss, model, train)
        return training.loss
    copies = _reconstructs(model, train)
    if train.labels is None and not copies:
        origin["loss"] = "default: train has no labels, the float model's outputs are the target"
        return Loss.DISTILLATION
    own = _LOSSES.get(_plain(model.compile_config.get("loss", "")))
    if own is not None and _fits(own, model, train):
        origin["loss"] = "model"
        return own
    if ROC_AUC in metrics and _same_sizes(model):
        origin["loss"] = "default: the model gives its input back, judged by rocAuc"
        return Loss.MEAN_SQUARED_ERROR
    if MEAN_SQUARED_ERROR in metrics or copies or not _classes(model, train):
        origin["loss"] = "default: the output is compared number by number"
        return Loss.MEAN_SQUARED_ERROR
    if model.outputs[0].shape[-1] == 1:
        origin["loss"] = "default: labels for one output"
        return Loss.BINARY_CROSSENTROPY
    origin["loss"] = "default: labels are classes"
    return Loss.CATEGORICAL_CROSSENTROPY


def _optimizer(training: Training, model: ModelInfo, origin: dict[str, str]) -> Optimizer:
    if training.optimizer is not None:
        origin["optimizer"] = "manifest"
        return training.optimizer
    own = _OPTIMIZERS.get(_plain(model.compile_config.get("optimizer", "")))
    if own is not None:
        origin["optimizer"] = "model"
        return own
    origin["optimizer"] = "default: adam wants the least tuning"
    return Optimizer.ADAM


def _learning_rate(
    training: Training, model: ModelInfo, optimizer: Optimizer, origin: dict[str, str]
) -> float:
    if training.learning_rate is not None:
        origin["learningRate"] = "manifest"
        return training.learning_rate
    default, highest = RATES[optimizer]
    own = model.compile_config.get("learningRate")
    same = _OPTIMIZERS.get(_plain(model.compile_config.get("optimizer", ""))) is optimizer
    if isinstance(own, int | float) and same and own * FINE_TUNING < default / SPENT:
        origin["learningRate"] = f"default: the model's own {float(own):g} is the end of a decay"
        return default
    if isinstance(own, int | float) and same:
        origin["learningRate"] = f"model: {FINE_TUNING:g} of its {float(own):g}, at most {highest:g}"
        return min(float(own) * FINE_TUNING, highest)
    origin["learningRate"] = "default: low, since the weights are good already"
    return default


def _distill(training: Training, loss: Loss, origin: dict[str, str]) -> float:
    if loss is Loss.DISTILLATION:
        origin["distill"] = "default: there are no labels"
        return 1.0
    if training.distill is not None:
        origin["distill"] = "manifest"
        return training.distill
    if loss in CLASSES:
        origin["distill"] = "default: the float model's probabilities teach more than the labels alone"
        return 0.5
    origin["distill"] = "default: the target says everything"
    return 0.0


def _must_fit(loss: Loss, model: ModelInfo, train: DataInfo) -> None:
    if _fits(loss, model, train):
        return
    labels = "no labels" if train.labels is None else f"labels of shape {list(train.labels.shape)}"
    raise StageError(
        Reason.DATA_MISMATCH,
        f"training.loss is {loss.value}, but dataset.train ({train.uri}) has {labels} and the model's output "
        f"the shape {list(model.outputs[0].shape)}; distillation works without labels",
    )


def _fits(loss: Loss, model: ModelInfo, train: DataInfo) -> bool:
    if loss is Loss.DISTILLATION:
        return True
    if train.labels is None:
        return loss is Loss.MEAN_SQUARED_ERROR and _same_sizes(model)
    per_label = math.prod(train.labels.shape[1:])
    outputs = math.prod(model.outputs[0].shape)
    if loss is Loss.CATEGORICAL_CROSSENTROPY:
        return per_label in (outputs // model.outputs[0].shape[-1], outputs)
    if loss is Loss.BINARY_CROSSENTROPY:
        return per_label == outputs
    return per_label == outputs or _same_sizes(model)


def _classes(model: ModelInfo, train: DataInfo) -> bool:
    return train.labels is not None and _fits(Loss.CATEGORICAL_CROSSENTROPY, model, train)


def _same_sizes(model: ModelInfo) -> bool:
    return math.prod(model.inputs[0].shape) == math.prod(model.outputs[0].shape)


def _reconstructs(model: ModelInfo, train: DataInfo) -> bool:
    return train.labels is None and _same_sizes(model)


def _plain(name: Any) -> str:
    """`SparseCategoricalCrossentropy`, `sparse_categorical_crossentropy` and such, all alike."""
    return str(name).lower().replace("_", "").replace(" ", "").replace("-", "")
