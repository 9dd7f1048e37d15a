"""Training the float .tflite itself: its graph as a TensorFlow function, its constants as variables."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError
from paretune_contract.training import Loss, Optimizer, ResolvedTraining
from paretune_store.steps import JSON

from .. import flatbuffer as fb
from ..data import Batch, PreparedSplit
from ..graph.function import GraphFunction
from ..graph.signature import ordered_inputs
from ..layers import LayerPlan
from ..runtime import open_interpreter, run_interpreter
from .config import CLASSES
from .losses import distillation_loss, label_loss
from .optimizers import cosine_rate, make_optimizer
from .parametrization import Parametrization
from .port import TrainingTask
from .schedule import Schedule, hold_out

Indices = NDArray[np.int64]
TEACHER_BYTES = 256 * 2**20
"""The float model's outputs are kept in memory up to this size, else computed anew in each epoch."""
VALIDATION_SAMPLES = 4096
CHECKED_SAMPLES = 4
TOLERANCE = 1e-3


class FileTrainer:
    """The `Trainer` that needs nothing but the file."""

    name = "train-file"
    version = 2

    def settings(self, task: TrainingTask) -> dict[str, JSON]:
        t = task.training
        return {
            "epochs": t.epochs,
            "batchSize": t.batch_size,
            "optimizer": t.optimizer.value,
            "learningRate": t.learning_rate,
            "loss": t.loss.value,
            "distill": t.distill,
            "validationShare": t.validation_share,
            "seed": task.seed,
            "layers": [_plan_key(plan) for plan in task.plans],
        }

    def train(self, task: TrainingTask, data: PreparedSplit, folder: Path) -> None:
        started = time.perf_counter()
        _start_tensorflow(task.threads)
        _say(f"TensorFlow ready after {time.perf_counter() - started:.1f} s")
        model = fb.read(task.model)
        function = GraphFunction(model)
        _must_agree(task.model, model, function, data)
        run = _Run(model, function, task, data)
        weights, history = run.fit()
        for index, value in weights.items():
            fb.set_constant(model, index, value)
        fb.write(model, folder / "model.tflite")
        np.savez(folder / "weights.npz", **{f"tensor{i}": v for i, v in weights.items()})  # type: ignore[arg-type]
        document = {"settings": self.settings(task), "history": history}
        (folder / "history.json").write_text(json.dumps(document, indent=1) + "\n")


class _Run:
    """One training from beginning to end."""

    def __init__(
        self, model: fb.Model, function: GraphFunction, task: TrainingTask, data: PreparedSplit
    ) -> None:
        import tensorflow as tf

        self._model, self._function, self._data = model, function, data
        self._training: ResolvedTraining = task.training
        self._rng = np.random.default_rng(task.seed)
        self._train, validation = hold_out(data.info.samples, self._training.validation_share, task.seed)
        self._validation = validation[:VALIDATION_SAMPLES]
        self._batch = min(self._training.batch_size, len(self._train))
        largest = 1.0 if self._training.optimizer is Optimizer.SGD else np.inf
        self._parameters = Parametrization(function.weights, task.plans, largest)
        self._teacher = _Teacher(function, data.info.samples) if self._training.distill > 0 else None
        self._schedule = Schedule.plan(
            epochs=self._training.epochs,
            steps_per_epoch=len(self._train) // self._batch,
            prunes=self._parameters.prunes,
            clusters=self._parameters.clusters,
        )
        self._apply = make_optimizer(self._training.optimizer, self._parameters.variables)
        # Traced once: the number of samples in a batch is left open.
        self._step = tf.function(self._train_step, reduce_retracing=True)
        self._measure = tf.function(self._loss, reduce_retracing=True)

    def fit(self) -> tuple[dict[int, fb.Array], list[JSON]]:
        """Train; the weights of the epoch with the least loss on the held-out part, and what happened."""
        best: tuple[float, dict[int, fb.Array]] | None = None
        history: list[JSON] = []
        step = 0
        for epoch in range(1, self._training.epochs + 1):
            started, losses = time.perf_counter(), []
            for inputs, target, teacher in self._batches(self._shuffled()):
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
                best = kept_out, self._parameters.final()
            seconds = time.perf_counter() - started
            history.append(
                {"epoch": epoch, "loss": loss, "validation": kept_out, "settled": settled, "seconds": seconds}
            )
            _say(
                f"epoch {epoch}/{self._training.epochs}: loss {loss:.4f}, held-out part {kept_out:.4f}"
                f"{'' if settled else ' (still changing)'}, {seconds:.1f} s",
            )
        if best is None:
            raise StageError(Reason.INTERNAL, "fine-tuning ended before its schedule did")
        return best[1], history

    def _change(self, step: int) -> None:
        """Do what the schedule has for this step, before it is taken."""
        progress = self._schedule.mask_update(step)
        if progress is not None:
            self._parameters.update_masks(progress)
        if step == self._schedule.cluster_at:
            self._parameters.begin_clustering()
        else:
            self._parameters.choose_centroids()

    def _shuffled(self) -> Indices:
        """The training part in a new order, whole batches only: one shape, one trace."""
        order = self._rng.permutation(self._train)
        return order[: len(order) // self._batch * self._batch]

    def _batches(self, indices: Indices) -> Iterator[tuple[list[Any], Any, list[Any]]]:
        at = 0
        for batch in self._data.batches(self._batch, indices=indices):
            inputs = ordered_inputs(self._model, batch.inputs)
            chosen = indices[at : at + len(inputs[0])]
            at += len(chosen)
            teacher = self._teacher(chosen, inputs) if self._teacher else []
            yield inputs, self._target(batch, inputs), teacher

    def _target(self, batch: Batch, inputs: Sequence[NDArray[np.float32]]) -> Any:
        """Labels; the input itself where a model that gives its input back has none of its shape."""
        outputs = fb.shape(self._model.subgraphs[0].tensors[self._function.outputs[0]])
        labels = batch.labels
        if self._training.loss is Loss.MEAN_SQUARED_ERROR and (
            labels is None or labels[0].size != int(np.prod(outputs))
        ):
            return inputs[0]
        return np.zeros(len(inputs[0]), np.float32) if labels is None else labels

    def _validate(self) -> float:
        losses, counts = [], []
        for inputs, target, teacher in self._batches(self._validation):
            losses.append(float(self._measure(inputs, target, teacher)))
            counts.append(len(inputs[0]))
        return float(np.average(losses, weights=counts))

    def _loss(self, inputs: Sequence[Any], target: Any, teacher: Sequence[Any]) -> Any:
        t = self._training
        outputs = self._function(self._parameters.weights(), inputs)
        total = 0.0
        if t.distill > 0:
            classes = t.loss in CLASSES
            total += t.distill * distillation_loss(outputs.logits, self._function.ends, teacher, classes)
        if t.distill < 1:
            total += (1 - t.distill) * label_loss(t.loss, outputs.values[0], outputs.logits[0], target)
        return total

    def _train_step(self, inputs: Sequence[Any], target: Any, teacher: Sequence[Any], rate: Any) -> Any:
        import tensorflow as tf

        variables = self._parameters.variables
        with tf.GradientTape() as tape:
            loss = self._loss(inputs, target, teacher)
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        self._apply(tf.clip_by_global_norm(gradients, 5.0)[0], rate)
        return loss


class _Teacher:
    """Logits of the untouched model, remembered for samples seen before where memory allows."""

    def __init__(self, function: GraphFunction, samples: int) -> None:
        import tensorflow as tf

        fixed = {i: tf.constant(v) for i, v in function.weights.items()}
        self._forward = tf.function(lambda x: list(function(fixed, x).logits), reduce_retracing=True)
        self._samples = samples
        self._memory: list[fb.Array] | None = None
        self._seen = np.zeros(samples, np.bool_)
        self._remembers = True

    def __call__(self, indices: Indices, inputs: Sequence[Any]) -> list[Any]:
        """Logits of all outputs for the samples `indices`, whose inputs are given."""
        if self._memory is not None and self._seen[indices].all():
            return [memory[indices] for memory in self._memory]
        logits = [np.asarray(y) for y in self._forward(list(inputs))]
        if self._memory is None and self._remembers:
            self._remembers = sum(y[0].nbytes for y in logits) * self._samples <= TEACHER_BYTES
            if self._remembers:
                self._memory = [np.zeros((self._samples, *y.shape[1:]), np.float32) for y in logits]
        if self._memory is not None:
            for memory, y in zip(self._memory, logits, strict=True):
                memory[indices] = y
            self._seen[indices] = True
        return logits


def _say(line: str) -> None:
    """Write to the request's log at once: training is what people wait for."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _plan_key(plan: LayerPlan) -> JSON:
    """What matters of a layer's plan while training: not its quantization, nor clusters made later."""
    clusters = plan.clustering.clusters if plan.clustering.stage.value == "training" else 0
    return [plan.layer.weight_tensor, plan.sparsity.pattern.value, plan.zeros, clusters]


def _start_tensorflow(threads: int) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # an operation ran before: the number of threads is fixed for the rest of the process
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(0)


def _must_agree(path: Path, model: fb.Model, function: GraphFunction, data: PreparedSplit) -> None:
    """Compare the function with the runtime on real samples, as one batch against one by one.

    Raises:
        StageError: STEP_FAILED when they differ: training would improve something else than the file.
    """
    import tensorflow as tf

    n = min(CHECKED_SAMPLES, data.info.samples)
    batch = next(iter(data.batches(n, indices=np.arange(n))))
    inputs = ordered_inputs(model, batch.inputs)
    weights = {i: tf.constant(v) for i, v in function.weights.items()}
    ours = [np.asarray(y) for y in function(weights, [tf.constant(x) for x in inputs]).values]
    interpreter = open_interpreter(path, threads=1)
    for sample in range(n):
        theirs = run_interpreter(interpreter, [x[sample : sample + 1] for x in inputs])
        for k, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            difference = float(np.max(np.abs(mine[sample : sample + 1] - other), initial=0.0))
            size = max(1.0, float(np.max(np.abs(other), initial=0.0)))
            if not difference <= TOLERANCE * size:
                raise StageError(
                    Reason.STEP_FAILED,
                    f"the model cannot be trained: as a TensorFlow function its output {k} differs by "
                    f"{difference:.3g} from the runtime's (at most {TOLERANCE * size:.3g} is expected)",
                )
