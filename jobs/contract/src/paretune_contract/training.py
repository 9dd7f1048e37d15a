"""How fine-tuning is done: the manifest's `spec.training`, completed by intake."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from .base import Document, Line


class Loss(StrEnum):
    """Losses that fine-tuning knows."""

    CATEGORICAL_CROSSENTROPY = "categoricalCrossentropy"  # integer labels, softmax or logits output
    BINARY_CROSSENTROPY = "binaryCrossentropy"
    MEAN_SQUARED_ERROR = "meanSquaredError"
    DISTILLATION = "distillation"  # no labels: the float model's outputs are the target


class Optimizer(StrEnum):
    """Optimizers that fine-tuning knows."""

    ADAM = "adam"
    SGD = "sgd"


class TrainerKind(StrEnum):
    """What trains networks."""

    FILE = "file"  # the float .tflite itself
    TFMOT = "tfmot"  # the TensorFlow Model Optimization toolkit, on Keras layers made from the file


TFMOT_CLUSTERS, TFMOT_CLUSTERS_BESIDE_ZEROS = 2, 3
"""Fewest clusters that tfmot trains, and fewest in a layer with zeros, where zero is one of them."""


class Augment(Document):
    """Changes made to training samples each time they are seen. The float model sees the same change."""

    shift_rows: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="Inputs of shape [height, width, channels] move by up to so many rows, edges repeated."
    )
    shift_columns: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="Inputs of shape [height, width, channels] move by up to so many columns."
    )
    flip: bool = Field(False, description="Half of the inputs are mirrored left to right.")
    noise: Annotated[float, Field(ge=0, le=1e6)] = Field(
        0.0, description="Standard deviation of the largest noise added, in units of the model's input."
    )
    mixup: Annotated[float, Field(ge=0, le=8)] = Field(
        0.0,
        description="Each sample is averaged with another one in parts drawn from Beta(mixup, mixup), labels "
        "too; 1: all parts alike. Worth most with `distill` and many epochs.",
    )


class Training(Document):
    """Fine-tuning settings. What is left out is chosen from the model, as `paretune plan` shows."""

    trainer: TrainerKind = Field(
        TrainerKind.FILE,
        description="file: the float model itself, whatever it came from. tfmot: the TensorFlow Model "
        "Optimization toolkit, for models of layers that it knows; rate-aware training goes without it.",
    )
    epochs: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Passes over the training part of `dataset.train`."
    )
    batch_size: Annotated[int, Field(ge=1, le=65536)] | None = Field(None, description="Samples per step.")
    optimizer: Optimizer | None = Field(None, description="Optimizer.")
    learning_rate: Annotated[float, Field(gt=0, le=10)] | None = Field(
        None, description="Peak learning rate; it decays by a cosine to a hundredth."
    )
    loss: Loss | None = Field(None, description="Loss against the labels.")
    distill: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Weight of the float model's outputs in the loss; the labels have the rest."
    )
    augment: Augment = Field(
        default_factory=Augment, description="Changes made to training samples; none by default."
    )


class ResolvedTraining(Document):
    """Every training setting with a value, and a word on where it came from."""

    trainer: TrainerKind = Field(TrainerKind.FILE, description="What trains networks.")
    epochs: int = Field(description="Passes over the training part of `dataset.train`.")
    batch_size: int = Field(description="Samples per step.")
    optimizer: Optimizer = Field(description="Optimizer.")
    learning_rate: float = Field(description="Peak learning rate.")
    loss: Loss = Field(description="Loss against the labels.")
    distill: float = Field(description="Weight of the float model's outputs in the loss.")
    augment: Augment = Field(default_factory=Augment, description="Changes made to training samples.")
    validation_share: float = Field(0.1, description="Part of train held out to choose the best epoch.")
    origin: Annotated[dict[str, Line], Field(max_length=16)] = Field(
        default_factory=dict,
        description="Field name to its origin: `manifest`, `model`, `default: <why>`.",
    )
