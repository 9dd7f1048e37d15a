"""Training with tfmot: pruning, then clustering, then quantization, each a wrapped Keras model of its own."""

import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from paretune_contract.failure import Reason, StageError
from paretune_contract.settings import Scheme
from paretune_contract.training import Optimizer
from paretune_store.steps import JSON

from ... import flatbuffer as fb
from ...data import PreparedSplit
from ...graph.function import GraphFunction
from ...layers import LayerPlan
from ..epochs import Trained, fit, write_trained
from ..learned_steps import integer_formats, integers_key
from ..lessons import Lesson, Lessons, must_answer_alike, start_tensorflow, teacher_of
from ..log import say
from ..optimizers import make_optimizer
from ..port import TrainingTask, identity
from ..schedule import Schedule
from .keras_model import KerasGraph
from .limits import clusters_early, must_be_able

if TYPE_CHECKING:
    from .phases import Phase

DISTRIBUTION = "tensorflow-model-optimization"


class TfmotTrainer:
    """The `Trainer` whose pruning, clustering and quantization are tfmot's."""

    name = "train-tfmot"
    version = 1

    def settings(self, task: TrainingTask) -> dict[str, JSON]:
        must_be_able(task.plans)
        integers = integers_key(task.plans)
        return {
            **identity(task),
            "layers": [_plan_key(plan) for plan in task.plans],
            **({"integers": integers, "activations": _rounds_activations(task.plans)} if integers else {}),
            "tool": f"{DISTRIBUTION} {version(DISTRIBUTION)}",
        }

    def train(self, task: TrainingTask, data: PreparedSplit, folder: Path) -> None:
        must_be_able(task.plans)
        started = time.perf_counter()
        start_tensorflow(task.threads)
        model = fb.read(task.model)
        function = GraphFunction(model)
        graph = KerasGraph(model, function)
        say(f"TensorFlow ready after {time.perf_counter() - started:.1f} s")
        untouched = graph.build(function.weights).model
        must_answer_alike(
            task.model, model, lambda x: graph.outputs(untouched, x, training=False).values, data,
            "as a Keras model",
        )  # fmt: skip
        lessons = Lessons(model, function, task.training, data, task.seed, teacher_of(task))
        network = _Network(graph, function.weights, lessons, task)
        trained, history = fit(network, lessons, task.training, network.schedule)
        write_trained(folder, model, trained, self.settings(task), history)


class _Network:
    """The model of the present phase, and how it becomes that of the next one."""

    def __init__(
        self, graph: KerasGraph, weights: Mapping[int, fb.Array], lessons: Lessons, task: TrainingTask
    ) -> None:
        self._graph, self._lessons, self._task = graph, lessons, task
        self._weights = dict(weights)
        formats = integer_formats(task.plans)
        self.schedule = Schedule.plan(
            epochs=task.training.epochs,
            steps_per_epoch=lessons.steps_per_epoch,
            prunes=any(p.zeros > 0 for p in task.plans),
            clusters=any(clusters_early(p) for p in task.plans),
            quantizes=any(i in formats for i in weights),
        )
        ramp = self.schedule.ramp
        if any(p.zeros > 0 for p in task.plans) and not ramp:
            raise StageError(
                Reason.STEP_FAILED,
                f"training.trainer is tfmot: fine-tuning has {self.schedule.steps} step(s), too few to prune "
                "in; take more training.epochs or a smaller training.batchSize",
            )
        self._entered: set[int] = set()
        self._phase: Phase | None = None

    def change(self, step: int) -> None:
        if step in self._entered:
            return
        self._entered.add(step)
        for phase in self._phases_at(step):
            if self._phase is not None:
                self._weights |= self._phase.final().weights
            self._enter(phase)

    def _phases_at(self, step: int) -> Iterator["Phase"]:
        from . import phases

        plans, schedule = self._task.plans, self.schedule
        if step == 0:
            yield phases.Pruning(plans, schedule.ramp)
        if step == schedule.cluster_at:
            yield phases.Clustering(plans)
        if step == schedule.quantize_at:
            yield phases.Quantizing(plans, activations=_rounds_activations(plans))

    def _enter(self, phase: "Phase") -> None:
        import tensorflow as tf

        self._phase = phase
        phase.begin(self._graph.build(self._weights))
        self._variables = list(phase.model.trainable_variables)
        largest = np.float32(1.0 if self._task.training.optimizer is Optimizer.SGD else np.inf)
        units = phase.units(self._weights)
        self._units = [np.minimum(units.get(v.ref(), np.float32(1)), largest) for v in self._variables]
        self._apply = make_optimizer(self._task.training.optimizer, self._variables, self._units)
        self._step = tf.function(self._train_step, reduce_retracing=True)
        self._measure = tf.function(self._judged, reduce_retracing=True)

    def learn(self, lesson: Lesson, rate: float) -> Any:
        return self._step(*lesson, np.float32(rate))

    def judge(self, lesson: Lesson) -> Any:
        return self._measure(*lesson)

    def final(self) -> Trained:
        assert self._phase is not None
        return self._phase.final()

    def _loss(self, inputs: Sequence[Any], target: Any, teacher: Sequence[Any], *, training: bool) -> Any:
        assert self._phase is not None
        outputs = self._graph.outputs(self._phase.model, inputs, training=training)
        return self._lessons.loss(outputs, target, teacher)

    def _judged(self, inputs: Sequence[Any], target: Any, teacher: Sequence[Any]) -> Any:
        return self._loss(inputs, target, teacher, training=False)

    def _train_step(self, inputs: Sequence[Any], target: Any, teacher: Sequence[Any], rate: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self._loss(inputs, target, teacher, training=True)
        gradients = tape.gradient(loss, self._variables, unconnected_gradients="zero")
        # In units of the weights' own size, as the other trainer has them.
        gradients = [tf.convert_to_tensor(g) * u for g, u in zip(gradients, self._units, strict=True)]
        self._apply(tf.clip_by_global_norm(gradients, 5.0)[0], rate)
        return loss


def _rounds_activations(plans: Sequence[LayerPlan]) -> bool:
    """Whether activations are stored in eight bits throughout, so that training can round them too."""
    return all(p.scheme in (Scheme.INT8, Scheme.INT4) for p in plans)


def _plan_key(plan: LayerPlan) -> JSON:
    clusters = plan.clustering.clusters if clusters_early(plan) else 0
    return [plan.layer.weight_tensor, plan.sparsity.pattern.value, plan.zeros, clusters]
