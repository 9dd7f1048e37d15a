"""What a float .tflite is made of: layers with weights, their cost, and what can be done to each.

Pure reading of the flatbuffer, without TensorFlow.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from paretune_contract.model import LayerInfo

from .. import flatbuffer as fb
from .operators import ACTIVATIONS, BIAS_INPUT, CONSTANT_INPUTS, FUNCTIONS, SHAPE_INPUTS, WEIGHT_INPUT

PRUNED_OPERATORS = frozenset({"CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
INT4_OPERATORS = frozenset({"CONV_2D", "FULLY_CONNECTED"})
# Weight operands of operators that are quantized but not trained here.
UNTRAINED_WEIGHTS = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 9)),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), *range(18, 26)),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "LSTM": tuple(range(1, 9)),
    "SVDF": (1, 2),
    "RNN": (1, 2),
    "BATCH_MATMUL": (0, 1),
    "EMBEDDING_LOOKUP": (1,),
    "CONV_3D": (1,),
}
TINY_WEIGHTS, TINY_SHARE, TINY_LIMIT = 256, 0.01, 1024


@dataclass(frozen=True)
class GraphDescription:
    """Layers in execution order, totals, and operators without a gradient."""

    layers: tuple[LayerInfo, ...]
    parameters: int
    macs: int
    untrainable: tuple[str, ...]


@dataclass(frozen=True)
class WeightedOperator:
    """An operator with constant weights: its index, its name, its weight tensors (the main one first)."""

    index: int
    operator: str
    tensors: tuple[int, ...]


def describe(path: Path) -> GraphDescription:
    """Describe the .tflite at `path`.

    Raises:
        StageError: MODEL_UNREADABLE when the file is no .tflite.
    """
    return describe_model(fb.read(path))


def describe_model(model: fb.Model) -> GraphDescription:
    """Describe a loaded model."""
    graph = model.subgraphs[0]
    obstacles = untrainable(model)
    found = weighted_operators(model)
    sizes = [sum(prod(fb.shape(graph.tensors[t])) for t in w.tensors) for w in found]
    tiny = tiny_below(sum(sizes))
    layers = []
    for w, size in zip(found, sizes, strict=True):
        tensor = graph.tensors[w.tensors[0]]
        dense = w.operator in PRUNED_OPERATORS and size >= tiny
        layers.append(
            LayerInfo(
                name=layer_name(model, w.index),
                operator=w.operator,
                weight_tensor=w.tensors[0],
                weight_shape=fb.shape(tensor),
                weights=size,
                macs=_macs(model, w, size),
                trainable=w.operator in WEIGHT_INPUT and not obstacles,
                prunable=dense,
                clusterable=dense,
                int4=w.operator in INT4_OPERATORS,
            )
        )
    return GraphDescription(
        layers=tuple(layers),
        parameters=_parameters(model),
        macs=sum(layer.macs for layer in layers),
        untrainable=obstacles,
    )


def tiny_below(total: int) -> int:
    """Layers with fewer weights than this are neither pruned nor clustered.

    They hold next to nothing of the bytes and much of the accuracy (a stem, a shortcut): under 256
    weights, or under 1% of the model's, this capped at 1,024.
    """
    return max(TINY_WEIGHTS, min(TINY_LIMIT, int(total * TINY_SHARE)))


def layer_name(model: fb.Model, operator: int) -> str:
    """Name of the operator's first output tensor, or its place where the file has no names."""
    graph = model.subgraphs[0]
    name = fb.tensor_name(graph.tensors[int(graph.operators[operator].outputs[0])])
    return name or f"operator-{operator}"


def weighted_operators(model: fb.Model) -> tuple[WeightedOperator, ...]:
    """Operators with constant weights, in execution order.

    Weights may reach the operator through a DEQUANTIZE, as they do in float16 files; the constant behind it
    is what counts. The order is the same in a float file and in any quantized version of it.
    """
    graph = model.subgraphs[0]
    behind = {
        int(op.outputs[0]): int(op.inputs[0])
        for op in graph.operators
        if fb.operator_name(model, op) in ("DEQUANTIZE", "DENSIFY")
    }
    found = []
    for i, op in enumerate(graph.operators):
        name = fb.operator_name(model, op)
        at = (WEIGHT_INPUT[name],) if name in WEIGHT_INPUT else UNTRAINED_WEIGHTS.get(name, ())
        tensors = []
        for j in at:
            tensor = int(op.inputs[j]) if j < len(op.inputs) else -1
            while tensor in behind:
                tensor = behind[tensor]
            if tensor >= 0 and fb.is_constant(model, tensor):
                tensors.append(tensor)
        if tensors:
            found.append(WeightedOperator(i, name, tuple(tensors)))
    return tuple(found)


def needed_operators(model: fb.Model) -> tuple[int, ...]:
    """Indices of the operators that the outputs depend on, in execution order.

    Operators that only compute a shape the file states anyway (SHAPE, STRIDED_SLICE, PACK in front of a
    RESHAPE) are left out.
    """
    graph = model.subgraphs[0]
    producer = {int(t): i for i, op in enumerate(graph.operators) for t in op.outputs}
    wanted, needed = [int(t) for t in graph.outputs], set()
    while wanted:
        i = producer.get(wanted.pop())
        if i is None or i in needed:
            continue
        needed.add(i)
        op = graph.operators[i]
        skipped = SHAPE_INPUTS.get(fb.operator_name(model, op), ())
        wanted += [int(t) for j, t in enumerate(op.inputs) if int(t) >= 0 and j not in skipped]
    return tuple(sorted(needed))


def untrainable(model: fb.Model) -> tuple[str, ...]:
    """What stands in the way of a gradient, as operator names with a word on the variant; () if nothing."""
    found: list[str] = []
    for i in needed_operators(model):
        obstacle = _obstacle(model, model.subgraphs[0].operators[i])
        if obstacle is not None and obstacle not in found:
            found.append(obstacle)
    if not found and not any(w.operator in WEIGHT_INPUT for w in weighted_operators(model)):
        found.append("no trainable weights")
    return tuple(found)


def _obstacle(model: fb.Model, op: fb.Operator) -> str | None:
    graph, name = model.subgraphs[0], fb.operator_name(model, op)
    if name not in FUNCTIONS:
        return name
    code = getattr(op.builtinOptions, "fusedActivationFunction", 0)
    if code not in ACTIVATIONS:
        return f"{name} (fused activation {code})"
    if any(not fb.is_constant(model, int(op.inputs[j])) for j in CONSTANT_INPUTS.get(name, ())):
        return f"{name} (computed arguments)"
    outputs = [graph.tensors[int(t)] for t in op.outputs]
    if any(not fb.shape(t) or fb.shape(t)[0] != 1 for t in outputs):
        return f"{name} (moves the batch axis)"
    if any(fb.type_name(t) != "FLOAT32" for t in outputs):
        return f"{name} ({fb.type_name(outputs[0])})"
    return _variant_obstacle(model, op, name)


def _variant_obstacle(model: fb.Model, op: fb.Operator, name: str) -> str | None:
    graph, options = model.subgraphs[0], op.builtinOptions
    if name == "CONV_2D":
        channels = fb.shape(graph.tensors[int(op.inputs[0])])[-1]
        if fb.shape(graph.tensors[int(op.inputs[1])])[-1] != channels:
            return f"{name} (groups)"
    if name == "FULLY_CONNECTED" and options.weightsFormat != 0:
        return f"{name} (shuffled weights)"
    if name == "STRIDED_SLICE" and (options.newAxisMask | options.shrinkAxisMask | options.ellipsisMask) & 1:
        return f"{name} (moves the batch axis)"
    return None


def _parameters(model: fb.Model) -> int:
    """Number of float constants that operators read, each tensor once."""
    graph = model.subgraphs[0]
    read = {int(t) for op in graph.operators for t in op.inputs if int(t) >= 0}
    return sum(
        prod(fb.shape(graph.tensors[t]))
        for t in read
        if fb.is_constant(model, t) and fb.type_name(graph.tensors[t]) in ("FLOAT32", "FLOAT16")
    )


def _macs(model: fb.Model, w: WeightedOperator, size: int) -> int:
    """Multiply-accumulates of one inference at batch 1, without biases and activations."""
    graph = model.subgraphs[0]
    op = graph.operators[w.index]
    out = fb.shape(graph.tensors[int(op.outputs[0])])
    if w.operator in ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D"):
        return prod(out[1:-1]) * size
    if w.operator == "TRANSPOSE_CONV":
        return prod(fb.shape(graph.tensors[input_of(model, w)])[1:-1]) * size
    if w.operator == "FULLY_CONNECTED":
        return prod(out) * fb.shape(graph.tensors[w.tensors[0]])[-1]
    if w.operator == "EMBEDDING_LOOKUP":
        return 0
    if "SEQUENCE" in w.operator:
        steps = fb.shape(graph.tensors[int(op.inputs[0])])
        return size * (steps[0] if getattr(op.builtinOptions, "timeMajor", False) else steps[1])
    return size


def has_integer_weights(model: fb.Model, w: WeightedOperator) -> bool:
    """Whether an operator whose weights are trained holds integers; the quantizer may leave some float."""
    tensor = model.subgraphs[0].tensors[w.tensors[0]]
    return w.operator in WEIGHT_INPUT and fb.type_name(tensor) in ("INT8", "INT4")


def input_of(model: fb.Model, w: WeightedOperator) -> int:
    """Index of the activation that enters the operator."""
    # A transposed convolution reads the shape of its output first.
    at = 2 if w.operator == "TRANSPOSE_CONV" else 0
    return int(model.subgraphs[0].operators[w.index].inputs[at])


def bias_tensor(model: fb.Model, w: WeightedOperator) -> int | None:
    """Index of the operator's constant bias, if it has one."""
    op = model.subgraphs[0].operators[w.index]
    at = BIAS_INPUT.get(w.operator)
    if at is None or at >= len(op.inputs) or not fb.is_constant(model, int(op.inputs[at])):
        return None
    return int(op.inputs[at])
