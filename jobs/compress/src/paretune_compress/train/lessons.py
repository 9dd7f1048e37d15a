"""What a network in training sees: batches, labels or the input itself, and the float model's answers."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError
from paretune_contract.training import Loss, ResolvedTraining

from .. import flatbuffer as fb
from ..data import Batch, PreparedSplit
from ..graph.function import GraphFunction, Outputs
from ..graph.signature import ordered_inputs
from ..runtime import open_interpreter, run_interpreter
from .augmentation import Augmentation
from .config import CLASSES
from .losses import distillation_loss, label_loss
from .port import TrainingTask
from .schedule import hold_out

Indices = NDArray[np.int64]
Lesson = tuple[list[Any], Any, list[Any]]
"""Inputs, target, and the teacher's logits (empty without a teacher)."""
TEACHER_BYTES = 256 * 2**20
"""The float model's outputs are kept in memory up to this size, else computed anew in each epoch."""
VALIDATION_SAMPLES = 4096
CHECKED_SAMPLES = 4
TOLERANCE = 1e-3


def teacher_of(task: TrainingTask) -> GraphFunction | None:
    """The network to learn from, where it is not the task's own model."""
    return GraphFunction(fb.read(task.teacher)) if task.teacher is not None else None


class Lessons:
    """The training part in batches, the held-out part, and the loss over both.

    Args:
        model: the float model.
        function: the same as a TensorFlow function.
        training: loss, weight of the teacher, size of a batch.
        data: the split to train on.
        seed: of the order of samples, of what is held out, and of augmentation.
        teacher: the network to learn from; None: the model as it is.
    """

    def __init__(
        self,
        model: fb.Model,
        function: GraphFunction,
        training: ResolvedTraining,
        data: PreparedSplit,
        seed: int,
        teacher: GraphFunction | None = None,
    ) -> None:
        self._model, self._function, self._training, self._data = model, function, training, data
        self._rng = np.random.default_rng(seed)
        self._train, held_out = hold_out(data.info.samples, training.validation_share, seed)
        self._held_out = held_out[:VALIDATION_SAMPLES]
        self.batch = min(training.batch_size, len(self._train))
        self.steps_per_epoch = len(self._train) // self.batch
        self._augmentation = Augmentation.of(training.augment, self._rng)
        self._teacher = Teacher(teacher or function, data.info.samples) if training.distill > 0 else None

    def epoch(self) -> Iterator[Lesson]:
        """The training part in a new order, whole batches only: one shape, one trace."""
        order = self._rng.permutation(self._train)
        yield from self._batches(order[: self.steps_per_epoch * self.batch], self._augmentation)

    def held_out(self) -> Iterator[Lesson]:
        """The part that is not trained on, as it is."""
        yield from self._batches(self._held_out, None)

    def held_out_loss(self, judge: Callable[[Lesson], Any]) -> float:
        """The mean loss of the held-out part, by what gives that of a batch."""
        losses, counts = [], []
        for lesson in self.held_out():
            losses.append(float(judge(lesson)))
            counts.append(len(lesson[0][0]))
        return float(np.average(losses, weights=counts))

    def loss(self, outputs: Outputs, target: Any, teacher: Sequence[Any]) -> Any:
        """The mean loss of a batch, as a TensorFlow scalar."""
        t = self._training
        total = 0.0
        if t.distill > 0:
            classes = t.loss in CLASSES
            total += t.distill * distillation_loss(outputs.logits, self._function.ends, teacher, classes)
        if t.distill < 1:
            total += (1 - t.distill) * label_loss(t.loss, outputs.values[0], outputs.logits[0], target)
        return total

    def _batches(self, indices: Indices, augmentation: Augmentation | None) -> Iterator[Lesson]:
        at = 0
        for batch in self._data.batches(self.batch, indices=indices):
            inputs = ordered_inputs(self._model, batch.inputs)
            chosen = indices[at : at + len(inputs[0])]
            at += len(chosen)
            if augmentation is not None:
                inputs = augmentation(inputs)
            target = self._target(batch, inputs)
            mixture = augmentation.mixture(len(chosen)) if augmentation is not None else None
            if mixture is not None:
                inputs = [mixture(x) for x in inputs]
                target = mixture(self._as_numbers(target))
            seen = chosen if augmentation is None else None
            teacher = self._teacher(seen, inputs) if self._teacher else []
            yield inputs, target, teacher

    def _target(self, batch: Batch, inputs: Sequence[NDArray[np.float32]]) -> Any:
        """Labels; the input itself where a model that gives its input back has none of its shape."""
        labels = batch.labels
        if self._training.loss is Loss.MEAN_SQUARED_ERROR and (
            labels is None or labels[0].size != int(np.prod(self._output_shape()))
        ):
            return inputs[0]
        return np.zeros(len(inputs[0]), np.float32) if labels is None else labels

    def _as_numbers(self, target: NDArray[Any]) -> NDArray[np.float32]:
        """A target that can be averaged: classes one-hot."""
        shape = (len(target), *self._output_shape()[1:])
        if self._training.loss is Loss.CATEGORICAL_CROSSENTROPY and np.prod(target.shape) != np.prod(shape):
            hot: NDArray[np.float32] = np.eye(shape[-1], dtype=np.float32)[target.astype(np.int64)]
            return hot.reshape(shape)
        numbers: NDArray[np.float32] = target.astype(np.float32)
        return numbers

    def _output_shape(self) -> tuple[int, ...]:
        return tuple(fb.shape(self._model.subgraphs[0].tensors[self._function.outputs[0]]))


class Teacher:
    """Logits of the untouched model, remembered for samples seen before where memory allows."""

    def __init__(self, function: GraphFunction, samples: int) -> None:
        import tensorflow as tf

        fixed = {i: tf.constant(v) for i, v in function.weights.items()}
        self._forward = tf.function(lambda x: list(function(fixed, x).logits), reduce_retracing=True)
        self._samples = samples
        self._memory: list[fb.Array] | None = None
        self._seen = np.zeros(samples, np.bool_)
        self._remembers = True

    def __call__(self, indices: Indices | None, inputs: Sequence[Any]) -> list[Any]:
        """Logits of all outputs.

        Args:
            indices: which samples these are; None when they are changed, and nothing can be remembered.
            inputs: the samples.
        """
        if indices is not None and self._memory is not None and self._seen[indices].all():
            return [memory[indices] for memory in self._memory]
        logits = [np.asarray(y) for y in self._forward(list(inputs))]
        if indices is None:
            return logits
        if self._memory is None and self._remembers:
            self._remembers = sum(y[0].nbytes for y in logits) * self._samples <= TEACHER_BYTES
            if self._remembers:
                self._memory = [np.zeros((self._samples, *y.shape[1:]), np.float32) for y in logits]
        if self._memory is not None:
            for memory, y in zip(self._memory, logits, strict=True):
                memory[indices] = y
            self._seen[indices] = True
        return logits


def start_tensorflow(threads: int) -> None:
    """Import TensorFlow, deterministic and on so many threads."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # an operation ran before: the number of threads is fixed for the rest of the process
    tf.config.experimental.enable_op_determinism()
    tf.random.set_seed(0)


def must_agree(path: Path, model: fb.Model, function: GraphFunction, data: PreparedSplit) -> None:
    """Compare the function with the runtime on real samples, as one batch against one by one.

    Raises:
        StageError: STEP_FAILED when they differ: training would improve something else than the file.
    """
    import tensorflow as tf

    weights = {i: tf.constant(v) for i, v in function.weights.items()}
    must_answer_alike(path, model, lambda x: function(weights, x).values, data, "as a TensorFlow function")


def must_answer_alike(
    path: Path,
    model: fb.Model,
    answers: Callable[[Sequence[Any]], Sequence[Any]],
    data: PreparedSplit,
    what: str,
) -> None:
    """Compare what is trained with the runtime on real samples, as one batch against one by one.

    Args:
        path: the float .tflite.
        model: the same, parsed.
        answers: outputs of what is trained for a batch, given one tensor for each input.
        data: where samples come from.
        what: for errors, what is trained in the file's place.

    Raises:
        StageError: STEP_FAILED when they differ.
    """
    import tensorflow as tf

    n = min(CHECKED_SAMPLES, data.info.samples)
    batch = next(iter(data.batches(n, indices=np.arange(n))))
    inputs = ordered_inputs(model, batch.inputs)
    ours = [np.asarray(y) for y in answers([tf.constant(x) for x in inputs])]
    interpreter = open_interpreter(path, threads=1)
    for sample in range(n):
        theirs = run_interpreter(interpreter, [x[sample : sample + 1] for x in inputs])
        for k, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            difference = float(np.max(np.abs(mine[sample : sample + 1] - other), initial=0.0))
            size = max(1.0, float(np.max(np.abs(other), initial=0.0)))
            if not difference <= TOLERANCE * size:
                raise StageError(
                    Reason.STEP_FAILED,
                    f"the model cannot be trained: {what} its output {k} differs by {difference:.3g} from "
                    f"the runtime's (at most {TOLERANCE * size:.3g} is expected)",
                )
