"""The port behind which networks are trained.

One trained network serves many quantizations, so a trainer knows nothing of those: it takes a float .tflite
and gives one back. What it is told about each layer is its sparsity, its clustering, and whether its weights
are to be integers. Two implementations do the same, one on the file itself and one through Keras layers and
tfmot; a third aims at a number of bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from paretune_contract.training import Augment, ResolvedTraining
from paretune_store.steps import JSON

from ..data import PreparedSplit
from ..layers import LayerPlan


@dataclass(frozen=True)
class TrainingTask:
    """What to train.

    model: the float .tflite to begin with.
    plans: for each layer its sparsity and clustering.
    training: loss, optimizer and the rest.
    seed: of the order of samples; the same seed gives the same network on the same machine.
    threads: of TensorFlow; it holds from the first operation of the process on.
    ratio: entropy-coded bytes of the weights as a share of those in float32; 0: no such aim.
    teacher: the model whose outputs are learned from; None: `model` itself, as it is before training.
    """

    model: Path
    plans: Sequence[LayerPlan]
    training: ResolvedTraining
    seed: int
    threads: int
    ratio: float = 0.0
    teacher: Path | None = None


def identity(task: TrainingTask) -> dict[str, JSON]:
    """What every trainer's result depends on, besides the model's and the data's bytes."""
    t = task.training
    return {
        "epochs": t.epochs,
        "batchSize": t.batch_size,
        "optimizer": t.optimizer.value,
        "learningRate": t.learning_rate,
        "loss": t.loss.value,
        "distill": t.distill,
        "validationShare": t.validation_share,
        **({"augment": _augment(t.augment)} if t.augment != Augment() else {}),
        "seed": task.seed,
    }


def _augment(augment: Augment) -> dict[str, JSON]:
    """Changes that are off and came later than the others stay out: what was trained before counts on."""
    found: dict[str, JSON] = augment.model_dump(mode="json")
    if not augment.mixup:
        del found["mixup"]
    return found


class Trainer(Protocol):
    """Something that trains networks."""

    name: str
    version: int

    def settings(self, task: TrainingTask) -> dict[str, JSON]:
        """What of the task decides the result, besides the model's and the data's bytes: the cache key."""

    def train(self, task: TrainingTask, data: PreparedSplit, folder: Path) -> None:
        """Write `model.tflite`, `weights.npz` and `history.json` into `folder`.

        Raises:
            StageError: STEP_FAILED when training diverges or the model cannot be trained.
        """
