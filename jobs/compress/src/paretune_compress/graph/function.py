"""A float .tflite as a TensorFlow function of its weights.

No Keras file is needed, batch norm is folded already, and weights keep the layout in which they are stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paretune_contract.failure import Reason, StageError

from .. import flatbuffer as fb
from .description import bias_tensor, needed_operators, untrainable, weighted_operators
from .operators import FUNCTIONS, SHAPE_INPUTS, WEIGHT_INPUT, Call, TFTensor


@dataclass(frozen=True)
class Outputs:
    """What the model gives for one batch.

    values: one tensor for each output, as the .tflite would give it.
    logits: the same, with a SOFTMAX or LOGISTIC at the very end left out.
    """

    values: Sequence[TFTensor]
    logits: Sequence[TFTensor]


class GraphFunction:
    """The model as a function of (weights, inputs), which TensorFlow can differentiate.

    Attributes:
        kernels: tensor indices of weights, in execution order, each once.
        weights: initial values of all that is trained, kernels and biases, by tensor index.
        ends: for each output `SOFTMAX`, `LOGISTIC` or "", what `Outputs.logits` left out.
        before_end: for each output the tensor of its logits.

    Raises:
        StageError: STEP_FAILED when an operator cannot be trained.
    """

    def __init__(self, model: fb.Model) -> None:
        if obstacles := untrainable(model):
            raise StageError(
                Reason.STEP_FAILED, f"the model cannot be trained: no gradient for {', '.join(obstacles)}"
            )
        self._model, self._graph = model, model.subgraphs[0]
        self._operators = [self._graph.operators[i] for i in needed_operators(model)]
        trained = [w for w in weighted_operators(model) if w.operator in WEIGHT_INPUT]
        self.kernels = tuple(dict.fromkeys(w.tensors[0] for w in trained))
        biases = [b for w in trained if (b := bias_tensor(model, w)) is not None]
        self.weights: dict[int, fb.Array] = {}
        for index in (*self.kernels, *biases):
            value = fb.constant(model, index)
            if value is not None:
                self.weights[index] = value
        self.inputs = tuple(int(t) for t in self._graph.inputs)
        self.outputs = tuple(int(t) for t in self._graph.outputs)
        makers = {int(op.outputs[0]): op for op in self._operators}
        self.ends = tuple(self._end(makers.get(t)) for t in self.outputs)
        self.before_end = tuple(
            int(makers[t].inputs[0]) if end else t for t, end in zip(self.outputs, self.ends, strict=True)
        )

    def __call__(self, weights: Mapping[int, TFTensor], inputs: Sequence[TFTensor]) -> Outputs:
        """Run the model on a batch.

        Args:
            weights: by tensor index, in the stored layout, for all of `self.weights`.
            inputs: one tensor for each input, the batch axis first, float32.
        """
        values: dict[int, TFTensor] = dict(zip(self.inputs, inputs, strict=True)) | dict(weights)
        for op in self._operators:
            results = FUNCTIONS[fb.operator_name(self._model, op)](self._call(op, values))
            results = results if isinstance(results, list | tuple) else [results]
            values.update(zip((int(t) for t in op.outputs), results, strict=True))
        return Outputs([values[t] for t in self.outputs], [values[t] for t in self.before_end])

    def _call(self, op: fb.Operator, values: dict[int, TFTensor]) -> Call:
        skipped = SHAPE_INPUTS.get(fb.operator_name(self._model, op), ())
        tensors: list[TFTensor | None] = []
        constants: list[fb.Array | None] = []
        for j, index in enumerate(int(t) for t in op.inputs):
            constant = None if index < 0 or index in values else fb.constant(self._model, index)
            constants.append(constant)
            if index < 0 or (j in skipped and index not in values):
                tensors.append(None)
            else:
                tensors.append(constant if constant is not None else values[index])
        shapes = [fb.shape(self._graph.tensors[int(t)]) for t in op.outputs]
        return Call(tensors, constants, op.builtinOptions, shapes)

    def _end(self, op: fb.Operator | None) -> str:
        if op is None:
            return ""
        name = fb.operator_name(self._model, op)
        if name == "SOFTMAX":
            return name if op.builtinOptions.beta == 1.0 else ""
        return name if name == "LOGISTIC" else ""
