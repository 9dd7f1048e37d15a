"""Training the float .tflite itself: its graph as a TensorFlow function, its constants as variables."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paretune_contract.failure import Reason, StageError
from paretune_contract.training import Optimizer, ResolvedTraining
from paretune_store.steps import JSON

from .. import flatbuffer as fb
from ..data import PreparedSplit
from ..graph.function import GraphFunction
from ..layers import LayerPlan
from ..steps.grids import GRIDS, write_grids
from .learned_steps import integer_formats
from .lessons import Lessons, must_agree, start_tensorflow
from .log import say
from .optimizers import cosine_rate, make_optimizer
from .parametrization import Parametrization
from .port import TrainingTask, identity
from .schedule import Schedule


class FileTrainer:
    """The `Trainer` that needs nothing but the file."""

    name = "train-file"
    version = 2

    def settings(self, task: TrainingTask) -> dict[str, JSON]:
        formats = integer_formats(task.plans)
        integers: dict[str, JSON] = {str(i): [f.bits, f.axis] for i, f in sorted(formats.items())}
        return {
            **identity(task),
            "layers": [_plan_key(plan) for plan in task.plans],
            **({"integers": integers} if integers else {}),
        }

    def train(self, task: TrainingTask, data: PreparedSplit, folder: Path) -> None:
        started = time.perf_counter()
        start_tensorflow(task.threads)
        say(f"TensorFlow ready after {time.perf_counter() - started:.1f} s")
        model = fb.read(task.model)
        function = GraphFunction(model)
        must_agree(task.model, model, function, data)
        run = _Run(model, function, task, data)
        weights, grids, history = run.fit()
        for index, value in weights.items():
            fb.set_constant(model, index, value)
        fb.write(model, folder / "model.tflite")
        if grids:
            write_grids(folder / GRIDS, grids)
        np.savez(folder / "weights.npz", **{f"tensor{i}": v for i, v in weights.items()})  # type: ignore[arg-type]
        document = {"settings": self.settings(task), "history": history}
        (folder / "history.json").write_text(json.dumps(document, indent=1) + "\n")


class _Run:
    """One training from beginning to end."""

    def __init__(
        self, model: fb.Model, function: GraphFunction, task: TrainingTask, data: PreparedSplit
    ) -> None:
        import tensorflow as tf

        self._function = function
        self._training: ResolvedTraining = task.training
        teacher = GraphFunction(fb.read(task.teacher)) if task.teacher is not None else None
        self._lessons = Lessons(model, function, task.training, data, task.seed, teacher)
        largest = 1.0 if self._training.optimizer is Optimizer.SGD else np.inf
        self._parameters = Parametrization(function.weights, task.plans, largest)
        self._schedule = Schedule.plan(
            epochs=self._training.epochs,
            steps_per_epoch=self._lessons.steps_per_epoch,
            prunes=self._parameters.prunes,
            clusters=self._parameters.clusters,
            quantizes=self._parameters.quantizes,
        )
        self._apply = make_optimizer(self._training.optimizer, self._parameters.variables)
        # Traced once: the number of samples in a batch is left open.
        self._step = tf.function(self._train_step, reduce_retracing=True)
        self._measure = tf.function(self._loss, reduce_retracing=True)

    def fit(self) -> tuple[dict[int, fb.Array], dict[int, list[float]], list[JSON]]:
        """Train; weights and grids of the epoch with the least loss on the held-out part, and the history."""
        best: tuple[float, dict[int, fb.Array], dict[int, list[float]]] | None = None
        history: list[JSON] = []
        step = 0
        for epoch in range(1, self._training.epochs + 1):
            started, losses = time.perf_counter(), []
            for inputs, target, teacher in self._lessons.epoch():
                self._change(step)
                rate = cosine_rate(self._training.learning_rate, step, self._schedule.steps)
                losses.append(self._step(inputs, target, teacher, np.float32(rate)))
                step += 1
            self._change(step)
            loss = float(np.mean([float(x) for x in losses]))
            kept_out = self._validate()
            if not np.isfinite(loss) or not np.isfinite(kept_out):
                raise StageError(
                    Reason.STEP_FAILED,
                    f"fine-tuning diverged in epoch {epoch} (loss {loss}); a training.learningRate below "
                    f"{self._training.learning_rate:g} would help",
                )
            settled = step >= self._schedule.settled
            if settled and (best is None or kept_out < best[0]):
                best = kept_out, self._parameters.final(), self._parameters.grids()
            seconds = time.perf_counter() - started
            history.append(
                {"epoch": epoch, "loss": loss, "validation": kept_out, "settled": settled, "seconds": seconds}
            )
            say(
                f"epoch {epoch}/{self._training.epochs}: loss {loss:.4f}, held-out part {kept_out:.4f}"
                f"{'' if settled else ' (still changing)'}, {seconds:.1f} s",
            )
        if best is None:
            raise StageError(Reason.INTERNAL, "fine-tuning ended before its schedule did")
        return best[1], best[2], history

    def _change(self, step: int) -> None:
        """Do what the schedule has for this step, before it is taken."""
        progress = self._schedule.mask_update(step)
        if progress is not None:
            self._parameters.update_masks(progress)
        if step == self._schedule.cluster_at:
            self._parameters.begin_clustering()
        else:
            self._parameters.choose_centroids()
        if step == self._schedule.quantize_at:
            self._parameters.begin_quantization()

    def _validate(self) -> float:
        losses, counts = [], []
        for inputs, target, teacher in self._lessons.held_out():
            losses.append(float(self._measure(inputs, target, teacher)))
            counts.append(len(inputs[0]))
        return float(np.average(losses, weights=counts))

    def _loss(self, inputs: Sequence[Any], target: Any, teacher: Sequence[Any]) -> Any:
        return self._lessons.loss(self._function(self._parameters.weights(), inputs), target, teacher)

    def _train_step(self, inputs: Sequence[Any], target: Any, teacher: Sequence[Any], rate: Any) -> Any:
        import tensorflow as tf

        variables = self._parameters.variables
        with tf.GradientTape() as tape:
            loss = self._loss(inputs, target, teacher)
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        self._apply(tf.clip_by_global_norm(gradients, 5.0)[0], rate)
        return loss


def _plan_key(plan: LayerPlan) -> JSON:
    """What matters of a layer's plan while training, but for integers: nor do clusters made later."""
    clusters = plan.clustering.clusters if plan.clustering.stage.value == "training" else 0
    return [plan.layer.weight_tensor, plan.sparsity.pattern.value, plan.zeros, clusters]
