"""Epoch after epoch: what trainers of a float file have in common."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from paretune_contract.failure import Reason, StageError
from paretune_contract.training import ResolvedTraining
from paretune_store.steps import JSON

from .. import flatbuffer as fb
from ..steps.grids import GRIDS, write_grids
from .lessons import Lesson, Lessons
from .log import say
from .optimizers import cosine_rate
from .schedule import Schedule


@dataclass(frozen=True)
class Trained:
    """What came out.

    weights: float32, as they are stored, by tensor index.
    grids: steps of the weights that are integers times a step, one or one for each channel, by tensor index.
    """

    weights: Mapping[int, fb.Array]
    grids: Mapping[int, list[float]]


class Network(Protocol):
    """A network in training."""

    def change(self, step: int) -> None:
        """Do what the schedule has for this step, before it is taken. May be told of a step twice."""

    def learn(self, lesson: Lesson, rate: float) -> Any:
        """One step of the optimizer at this learning rate; the loss before it, a scalar."""

    def judge(self, lesson: Lesson) -> Any:
        """The loss without learning from it, a scalar."""

    def final(self) -> Trained:
        """Weights and grids as they are now."""


def fit(
    network: Network, lessons: Lessons, training: ResolvedTraining, schedule: Schedule
) -> tuple[Trained, list[JSON]]:
    """Train; the epoch with the least loss on the held-out part among those that count, and the history.

    Raises:
        StageError: STEP_FAILED when training diverges.
    """
    best: tuple[float, Trained] | None = None
    history: list[JSON] = []
    step = 0
    for epoch in range(1, training.epochs + 1):
        started, losses = time.perf_counter(), []
        for lesson in lessons.epoch():
            network.change(step)
            losses.append(network.learn(lesson, cosine_rate(training.learning_rate, step, schedule.steps)))
            step += 1
        network.change(step)
        loss = float(np.mean([float(x) for x in losses]))
        kept_out = lessons.held_out_loss(network.judge)
        if not np.isfinite(loss) or not np.isfinite(kept_out):
            raise StageError(
                Reason.STEP_FAILED,
                f"fine-tuning diverged in epoch {epoch} (loss {loss}); a training.learningRate below "
                f"{training.learning_rate:g} would help",
            )
        settled = step >= schedule.settled
        if settled and (best is None or kept_out < best[0]):
            best = kept_out, network.final()
        seconds = time.perf_counter() - started
        history.append(
            {"epoch": epoch, "loss": loss, "validation": kept_out, "settled": settled, "seconds": seconds}
        )
        say(
            f"epoch {epoch}/{training.epochs}: loss {loss:.4f}, held-out part {kept_out:.4f}"
            f"{'' if settled else ' (still changing)'}, {seconds:.1f} s",
        )
    if best is None:
        raise StageError(Reason.INTERNAL, "fine-tuning ended before its schedule did")
    return best[1], history


def write_trained(
    folder: Path, model: fb.Model, trained: Trained, settings: Mapping[str, JSON], history: list[JSON]
) -> None:
    """Put the weights into the model and write what `Trainer.train` promises.

    Args:
        folder: exists.
        model: the float model; changed in place.
        trained: its new weights.
        settings: the trainer's part of the cache key.
        history: of the epochs.
    """
    for index, value in trained.weights.items():
        fb.set_constant(model, index, value)
    fb.write(model, folder / "model.tflite")
    if trained.grids:
        write_grids(folder / GRIDS, trained.grids)
    np.savez(folder / "weights.npz", **{f"tensor{i}": v for i, v in trained.weights.items()})  # type: ignore[arg-type]
    document = {"settings": dict(settings), "history": history}
    (folder / "history.json").write_text(json.dumps(document, indent=1) + "\n")
