"""Training the float .tflite itself: its graph as a TensorFlow function, its constants as variables."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paretune_contract.training import Optimizer
from paretune_store.steps import JSON

from .. import flatbuffer as fb
from ..data import PreparedSplit
from ..graph.function import GraphFunction
from ..layers import LayerPlan
from .epochs import Trained, fit, write_trained
from .learned_steps import integers_key
from .lessons import Lesson, Lessons, must_agree, start_tensorflow, teacher_of
from .log import say
from .optimizers import make_optimizer
from .parametrization import Parametrization
from .port import TrainingTask, identity
from .schedule import Schedule


class FileTrainer:
    """The `Trainer` that needs nothing but the file."""

    name = "train-file"
    version = 2

    def settings(self, task: TrainingTask) -> dict[str, JSON]:
        integers = integers_key(task.plans)
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
        lessons = Lessons(model, function, task.training, data, task.seed, teacher_of(task))
        network = _Network(function, lessons, task)
        trained, history = fit(network, lessons, task.training, network.schedule)
        write_trained(folder, model, trained, self.settings(task), history)


class _Network:
    """The file's graph with its constants as variables."""

    def __init__(self, function: GraphFunction, lessons: Lessons, task: TrainingTask) -> None:
        import tensorflow as tf

        self._function, self._lessons = function, lessons
        training = task.training
        largest = 1.0 if training.optimizer is Optimizer.SGD else np.inf
        self._parameters = Parametrization(function.weights, task.plans, largest)
        self.schedule = Schedule.plan(
            epochs=training.epochs,
            steps_per_epoch=lessons.steps_per_epoch,
            prunes=self._parameters.prunes,
            clusters=self._parameters.clusters,
            quantizes=self._parameters.quantizes,
        )
        self._apply = make_optimizer(training.optimizer, self._parameters.variables)
        # Traced once: the number of samples in a batch is left open.
        self._step = tf.function(self._train_step, reduce_retracing=True)
        self._measure = tf.function(self._loss, reduce_retracing=True)

    def change(self, step: int) -> None:
        progress = self.schedule.mask_update(step)
        if progress is not None:
            self._parameters.update_masks(progress)
        if step == self.schedule.cluster_at:
            self._parameters.begin_clustering()
        else:
            self._parameters.choose_centroids()
        if step == self.schedule.quantize_at:
            self._parameters.begin_quantization()

    def learn(self, lesson: Lesson, rate: float) -> Any:
        return self._step(*lesson, np.float32(rate))

    def judge(self, lesson: Lesson) -> Any:
        return self._measure(*lesson)

    def final(self) -> Trained:
        return Trained(self._parameters.final(), self._parameters.grids())

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
