"""The `Trainer` that aims at a number of bytes."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError
from paretune_store.steps import JSON

from ... import flatbuffer as fb
from ...data import PreparedSplit
from ...graph.function import GraphFunction
from ..epochs import Trained, write_trained
from ..lessons import Lessons, must_agree, start_tensorflow, teacher_of
from ..log import say
from ..optimizers import Adam
from ..port import TrainingTask, identity
from .integers import Integers, first_grids
from .steering import Steering, frozen

RATE = 0.008
"""Peak learning rate of latent weights, in steps of their tensor."""
STEP_SHARE = 0.1
"""Learning rate of log steps in relation to that of weights."""
FINAL_SHARE = 0.02
WARM_UP = 50
REPRICED = 20
"""Training steps between two looks at what levels cost."""
LONGER = 4
"""Training for bytes takes longer than fine-tuning: so many times its epochs, where the manifest has none."""
MOST_EPOCHS = 60
ROOM = 1.03
"""Epochs whose weights take more than this share of the budget are not kept while others are there."""
BYTES_PER_WEIGHT = 4


class RateTrainer:
    """Trains integer weights so that an entropy coder needs the bytes that were asked for.

    weight = step * integer, one trained step for each tensor; the loss holds the bits that a coder would pay
    (Agustsson et al. 2017 and Oktay et al. 2020 train for entropy, too), weighed so that a target is met.
    Sparsity, dead rows and columns, and the number of levels follow from it.
    """

    name = "train-rate"
    version = 1

    def settings(self, task: TrainingTask) -> dict[str, JSON]:
        return {
            **identity(task),
            "epochs": _epochs(task),
            "ratio": task.ratio,
            "narrow": [p.layer.weight_tensor for p in task.plans if p.scheme.value == "int4"],
        }

    def train(self, task: TrainingTask, data: PreparedSplit, folder: Path) -> None:
        """As the port says; `grids.json` beside it has the steps of the weights."""
        start_tensorflow(task.threads)
        model = fb.read(task.model)
        function = GraphFunction(model)
        must_agree(task.model, model, function, data)
        run = _Run(model, function, task, data)
        integers, steps, history = run.fit()
        weights = {i: (q.astype(np.float64) * steps[i]).astype(np.float32) for i, q in integers.items()}
        trained = Trained(weights, {i: [step] for i, step in steps.items()})
        write_trained(folder, model, trained, self.settings(task), history)


def _epochs(task: TrainingTask) -> int:
    given = task.training.epochs
    if task.training.origin.get("epochs") == "manifest":
        return given
    return min(max(MOST_EPOCHS, given), given * LONGER)


class _Run:
    """One training from beginning to end."""

    def __init__(
        self, model: fb.Model, function: GraphFunction, task: TrainingTask, data: PreparedSplit
    ) -> None:
        import tensorflow as tf

        self._function = function
        teacher = teacher_of(task)
        self._lessons = Lessons(model, function, task.training, data, task.seed, teacher)
        self._epochs = _epochs(task)
        self._steps = self._epochs * self._lessons.steps_per_epoch
        weights = function.weights
        whole = sum(w.size for w in (teacher or function).weights.values())
        self._target = task.ratio * whole * BYTES_PER_WEIGHT * 8
        size = sum(w.size for w in weights.values())
        grids = first_grids(weights, function.kernels, task.plans, self._target / size)
        self._integers = Integers(weights, grids, function.kernels)
        self._price = tf.Variable(0.0, trainable=False)
        self._move = Adam([self._integers.latent[i] for i in self._integers.order], beta2=0.99)
        self._stretch = Adam([self._integers.log_steps[i] for i in self._integers.kernels], beta2=0.99)
        # Traced once: the number of samples in a batch is left open.
        self._step = tf.function(self._train_step, reduce_retracing=True)
        self._measure = tf.function(self._loss, reduce_retracing=True)

    def fit(self) -> tuple[dict[int, NDArray[np.int32]], dict[int, float], list[JSON]]:
        """Train; integers and steps of the best epoch with zeros fixed, and what happened."""
        bits = self._integers.reprice()
        steering = Steering(first=max(bits, self._target), target=self._target)
        say(f"trains for {self._target / 8:,.0f} bytes of weights, from about {bits / 8:,.0f}")
        best: tuple[float, dict[int, NDArray[np.int32]], dict[int, float]] | None = None
        history: list[JSON] = []
        step, fixed = 0, False
        for epoch in range(1, self._epochs + 1):
            started, losses = time.perf_counter(), []
            for inputs, target, teacher in self._lessons.epoch():
                progress = step / self._steps
                if frozen(progress) and not fixed:
                    self._integers.freeze()
                    fixed = True
                if step % REPRICED == 0:
                    bits = self._integers.reprice()
                    self._price.assign(steering.price(bits, progress))
                losses.append(self._step(inputs, target, teacher, np.float32(_rate(step, self._steps))))
                step += 1
            loss = float(np.mean([float(x) for x in losses]))
            kept_out = self._lessons.held_out_loss(lambda lesson: self._measure(*lesson))
            if not np.isfinite(loss) or not np.isfinite(kept_out):
                raise StageError(Reason.STEP_FAILED, f"rate-aware training diverged in epoch {epoch}")
            bits = self._integers.reprice()
            fits = bits <= self._target * ROOM
            # An epoch that fits goes before one that does not, then the held-out loss counts.
            mark = kept_out if fits else 1e6 + bits / self._target
            if fixed and (best is None or mark < best[0]):
                best = mark, self._integers.integers(), self._integers.steps()
            seconds = time.perf_counter() - started
            history.append(
                {
                    "epoch": epoch,
                    "loss": loss,
                    "validation": kept_out,
                    "settled": fixed,
                    "bytes": round(bits / 8),
                    "price": float(self._price.numpy()),
                    "seconds": seconds,
                }
            )
            say(
                f"epoch {epoch}/{self._epochs}: loss {loss:.4f}, held-out part {kept_out:.4f}, "
                f"about {bits / 8:,.0f} bytes{'' if fixed else ' (still changing)'}, {seconds:.1f} s"
            )
        if best is None:
            best = 0.0, self._integers.integers(), self._integers.steps()
        return best[1], best[2], history

    def _loss(self, inputs: Any, target: Any, teacher: Any) -> Any:
        return self._lessons.loss(self._function(self._integers.weights(), inputs), target, teacher)

    def _train_step(self, inputs: Any, target: Any, teacher: Any, rate: Any) -> Any:
        import tensorflow as tf

        own = self._integers
        latent = [own.latent[i] for i in own.order]
        steps = [own.log_steps[i] for i in own.kernels]
        with tf.GradientTape() as tape:
            loss = self._loss(inputs, target, teacher)
        gradients = tape.gradient(loss, latent + steps, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        pulled = [
            g + self._price * own.force(i) for g, i in zip(gradients[: len(latent)], own.order, strict=True)
        ]
        self._move(pulled, rate)
        self._stretch(gradients[len(latent) :], rate * STEP_SHARE)
        return loss


def _rate(step: int, steps: int) -> float:
    """Learning rate of a step: a short warm-up, then a cosine."""
    share = 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
    return RATE * min(1.0, step / WARM_UP + 0.02) * (FINAL_SHARE + (1 - FINAL_SHARE) * share)
