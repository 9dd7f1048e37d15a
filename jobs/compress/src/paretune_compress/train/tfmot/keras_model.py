"""A float .tflite as a model of Keras layers, its weights known by their tensors.

Batch norm is folded, padding and activations are the file's own: the layers answer as the file does. What
tfmot needs is a model that it can wrap layer by layer, for whichever format the network came from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from paretune_contract.failure import Reason, StageError

from ... import flatbuffer as fb
from ...graph.description import bias_tensor, needed_operators, weighted_operators
from ...graph.function import GraphFunction, Outputs
from ...graph.operators import ACTIVATIONS, BIAS_INPUT, PADDING, WEIGHT_INPUT, Call

KerasLayer = Any
KerasTensor = Any
Chain = Callable[[Call, str], list[KerasLayer]]
"""Layers that do what an operator does, one after the other; the first takes the operator's inputs."""
FUSED = frozenset({"NONE", "RELU", "RELU6", "TANH"})
SAME_VALUES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "PAD", "MAX_POOL_2D"})
"""Operators whose outputs are some of their inputs, or zero: integers stay what they are."""
WITH_CONSTANT = frozenset({"ADD", "SUB", "MUL"})
SPATIAL = (1, 2)


@dataclass(frozen=True)
class Weights:
    """Where the weights of a Keras layer stand in the file.

    operator: such as CONV_2D.
    kernel, bias: tensor indices; None where there is no bias.
    shape: of the stored kernel.
    """

    operator: str
    kernel: int
    bias: int | None
    shape: tuple[int, ...]

    @property
    def attribute(self) -> str:
        """Name of the kernel in the Keras layer."""
        return "depthwise_kernel" if self.operator == "DEPTHWISE_CONV_2D" else "kernel"

    def to_keras(self, stored: fb.Array, inputs: int) -> fb.Array:
        """The kernel as Keras has it, output channels last; depthwise [height, width, in, multiplier].

        Args:
            stored: as in the file, or what goes with it, of the same rank.
            inputs: channels that enter the layer.
        """
        if self.operator == "CONV_2D":
            return stored.transpose(1, 2, 3, 0)
        if self.operator == "DEPTHWISE_CONV_2D":
            _, height, width, channels = stored.shape
            return stored.reshape(height, width, inputs, channels // inputs)
        return stored.T

    def from_keras(self, kernel: fb.Array) -> fb.Array:
        """The kernel as it is stored."""
        if self.operator == "CONV_2D":
            return np.ascontiguousarray(kernel.transpose(3, 0, 1, 2))
        if self.operator == "DEPTHWISE_CONV_2D":
            return np.ascontiguousarray(kernel.reshape(self.shape))
        return np.ascontiguousarray(kernel.T)


@dataclass(frozen=True)
class Built:
    """The Keras model of a file.

    model: from the file's inputs to the logits of each output; a SOFTMAX or LOGISTIC at the end is left out.
    weights: by the name of the layer, for those that have any.
    kept: names of layers after which values are stored as integers in a quantized file.
    """

    model: Any
    weights: Mapping[str, Weights]
    kept: frozenset[str]


class KerasGraph:
    """Builds Keras models of a file.

    Args:
        model: a float .tflite.
        function: the same as a TensorFlow function.

    Raises:
        StageError: STEP_FAILED when an operator has no Keras layer.
    """

    def __init__(self, model: fb.Model, function: GraphFunction) -> None:
        must_have_layers(model, Reason.STEP_FAILED)
        self._model, self._graph, self._function = model, model.subgraphs[0], function
        self._weighted = {w.index: w for w in weighted_operators(model) if w.operator in WEIGHT_INPUT}

    def build(self, weights: Mapping[int, fb.Array]) -> Built:
        """A new model with these weights, by tensor index as `GraphFunction.weights` has them."""
        from .library import keras

        tensors: dict[int, KerasTensor] = {
            index: keras.Input(shape=fb.shape(self._graph.tensors[index])[1:])
            for index in self._function.inputs
        }
        entries = [tensors[i] for i in self._function.inputs]
        places: dict[str, Weights] = {}
        kept: set[str] = set()
        for index in self._function.inputs:
            entry = keras.layers.Activation("linear", name=f"entry_{index}")
            tensors[index] = entry(tensors[index])
            kept.add(entry.name)
        filled: list[tuple[KerasLayer, list[fb.Array]]] = []
        wanted = set(self._function.before_end)
        for index in needed_operators(self._model):
            op = self._graph.operators[index]
            name = fb.operator_name(self._model, op)
            output = int(op.outputs[0])
            if output not in wanted and self._only_ends(output):
                continue
            call = self._call(op, tensors)
            chain = LAYERS[name](call, f"{name.lower()}_{index}")
            found = self._weights(index)
            values = [x for x in call.inputs if x is not None]
            for layer in chain:
                entering = values
                values = [layer(entering[0] if len(entering) == 1 else entering)]
                if found is not None and hasattr(layer, found.attribute):
                    places[layer.name] = found
                    filled.append((layer, self._values(found, weights, int(entering[0].shape[-1]))))
            tensors[output] = values[0]
            if name not in SAME_VALUES or len(chain) > 1:
                kept.add(chain[-1].name)
        for layer, arrays in filled:
            layer.set_weights(arrays)
        built = keras.Model(entries, [tensors[t] for t in self._function.before_end])
        return Built(built, places, frozenset(kept))

    def outputs(self, model: Any, inputs: Sequence[Any], *, training: bool) -> Outputs:
        """What a model of `build`, or one that was made from it, gives for a batch."""
        import tensorflow as tf

        logits = model(inputs[0] if len(inputs) == 1 else list(inputs), training=training)
        logits = list(logits) if isinstance(logits, list | tuple) else [logits]
        ends = {"SOFTMAX": tf.nn.softmax, "LOGISTIC": tf.sigmoid, "": tf.identity}
        values = [ends[end](y) for end, y in zip(self._function.ends, logits, strict=True)]
        return Outputs(values, logits)

    def _only_ends(self, output: int) -> bool:
        """Whether a tensor is an output of the model whose logits are taken instead."""
        read = {int(t) for op in self._graph.operators for t in op.inputs}
        return output in self._function.outputs and output not in read

    def _weights(self, index: int) -> Weights | None:
        weighted = self._weighted.get(index)
        if weighted is None:
            return None
        kernel = weighted.tensors[0]
        shape = fb.shape(self._graph.tensors[kernel])
        return Weights(weighted.operator, kernel, bias_tensor(self._model, weighted), shape)

    def _values(self, place: Weights, weights: Mapping[int, fb.Array], inputs: int) -> list[fb.Array]:
        kernel = place.to_keras(weights[place.kernel], inputs)
        return [kernel] if place.bias is None else [kernel, weights[place.bias]]

    def _call(self, op: fb.Operator, tensors: Mapping[int, KerasTensor]) -> Call:
        indices = [int(t) for t in op.inputs]
        constants = [fb.constant(self._model, t) if t >= 0 else None for t in indices]
        shapes = [fb.shape(self._graph.tensors[int(t)]) for t in op.outputs]
        return Call([tensors.get(t) for t in indices], constants, op.builtinOptions, shapes)


def must_have_layers(model: fb.Model, reason: Reason) -> None:
    """Refuse a model that this trainer cannot build.

    Raises:
        StageError: with `reason`, naming the operators without a Keras layer.
    """
    if found := without_layers(model):
        raise StageError(
            reason,
            f"training.trainer is tfmot, and there is no Keras layer for {', '.join(found)}; "
            "training.trainer: file trains this model",
        )


def without_layers(model: fb.Model) -> tuple[str, ...]:
    """Operators that have no Keras layer here, with a word on the variant; () if all have one."""
    found: list[str] = []
    graph = model.subgraphs[0]
    readers: dict[int, int] = {}
    for w in weighted_operators(model):
        readers[w.tensors[0]] = readers.get(w.tensors[0], 0) + 1
    for i in needed_operators(model):
        op = graph.operators[i]
        name = fb.operator_name(model, op)
        variant = _variant(model, op, name)
        if not variant and name in WEIGHT_INPUT:
            at = BIAS_INPUT[name]
            bias = int(op.inputs[at]) if at < len(op.inputs) else -1
            own = readers.get(int(op.inputs[1]), 0) == 1 and (bias < 0 or fb.is_constant(model, bias))
            variant = "" if own else "shared or computed weights"
        obstacle = name if name not in LAYERS else f"{name} ({variant})" if variant else ""
        if obstacle and obstacle not in found:
            found.append(obstacle)
    return tuple(found)


def _variant(  # noqa: PLR0911 - a checklist
    model: fb.Model, op: fb.Operator, name: str
) -> str:
    """What of an operator that has layers they cannot do; empty when nothing."""
    graph, options = model.subgraphs[0], op.builtinOptions
    shapes = [fb.shape(graph.tensors[int(t)]) if int(t) >= 0 else () for t in op.inputs]
    code = getattr(options, "fusedActivationFunction", 0)
    if ACTIVATIONS.get(code, "") not in FUSED:
        return f"fused activation {ACTIVATIONS.get(code, code)}"
    if name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        if (options.dilationHFactor, options.dilationWFactor) != (1, 1):
            return "dilation"
        if name == "DEPTHWISE_CONV_2D" and options.strideH != options.strideW:
            return "unequal strides"
    if name == "FULLY_CONNECTED" and shapes[1][1] not in (shapes[0][-1], prod(shapes[0][1:])):
        return "regroups its input"
    if name == "SOFTMAX" and options.beta != 1.0:
        return f"beta {options.beta:g}"
    if name in ("MEAN", "REDUCE_MAX"):
        axes = [a % len(shapes[0]) for a in _integers(model, int(op.inputs[1]))]
        if len(shapes[0]) != 4 or tuple(sorted(axes)) != SPATIAL:
            return f"over axes {', '.join(map(str, axes))} of {len(shapes[0])}"
    if name == "PAD":
        widths = _integers(model, int(op.inputs[1]))
        if len(widths) != 8 or any(widths[:2] + widths[6:]):
            return "pads more than height and width"
    if name in ("TRANSPOSE", "RESHAPE", "EXPAND_DIMS", "SQUEEZE", "PAD", "MEAN", "REDUCE_MAX"):
        return ""
    at = 1 if name in WEIGHT_INPUT else len(op.inputs)
    constants = [j for j in range(at) if fb.is_constant(model, int(op.inputs[j]))]
    if constants and not (name in WITH_CONSTANT and constants == [1]):
        return "a constant among its inputs"
    return ""


def _integers(model: fb.Model, index: int) -> list[int]:
    value = fb.constant(model, index)
    return [] if value is None else [int(v) for v in value.reshape(-1)]


# --- layers -------------------------------------------------------------------------------------------------


def _keras() -> Any:
    from .library import keras

    return keras.layers


def _fused(call: Call, name: str) -> list[KerasLayer]:
    kind = ACTIVATIONS[getattr(call.options, "fusedActivationFunction", 0)]
    return [] if kind == "NONE" else [_activation(kind, f"{name}_activation")]


def _activation(kind: str, name: str) -> KerasLayer:
    layers = _keras()
    if kind == "RELU":
        return layers.ReLU(name=name)
    if kind == "RELU6":
        return layers.ReLU(6.0, name=name)
    return layers.Activation("tanh" if kind == "TANH" else "sigmoid", name=name)


def _shape(call: Call) -> tuple[int, ...]:
    return tuple(call.shapes[0][1:])


def _reshape(call: Call, name: str) -> list[KerasLayer]:
    return [_keras().Reshape(_shape(call), name=name)]


def _conv(call: Call, name: str) -> list[KerasLayer]:
    o, (out, height, width, _) = call.options, call.constants[1].shape  # type: ignore[union-attr]
    layer = _keras().Conv2D(
        int(out), (int(height), int(width)), strides=(o.strideH, o.strideW),
        padding=PADDING[o.padding].lower(), use_bias=_has_bias(call), name=name,
    )  # fmt: skip
    return [layer, *_fused(call, name)]


def _depthwise(call: Call, name: str) -> list[KerasLayer]:
    o, (_, height, width, channels) = call.options, call.constants[1].shape  # type: ignore[union-attr]
    layer = _keras().DepthwiseConv2D(
        (int(height), int(width)), strides=(o.strideH, o.strideW), padding=PADDING[o.padding].lower(),
        depth_multiplier=int(channels) // int(call.inputs[0].shape[-1]), use_bias=_has_bias(call), name=name,
    )  # fmt: skip
    return [layer, *_fused(call, name)]


def _dense(call: Call, name: str) -> list[KerasLayer]:
    layers, (out, size) = _keras(), call.constants[1].shape  # type: ignore[union-attr]
    entering = tuple(call.inputs[0].shape[1:])
    flat = entering[-1] != size
    before = [layers.Flatten(name=f"{name}_flat")] if flat else []
    leaving = (out,) if flat else (*entering[:-1], out)
    after = [] if leaving == _shape(call) else [layers.Reshape(_shape(call), name=f"{name}_shape")]
    layer = layers.Dense(int(out), use_bias=_has_bias(call), name=name)
    return [*before, layer, *_fused(call, name), *after]


def _has_bias(call: Call) -> bool:
    return len(call.constants) > 2 and call.constants[2] is not None


def _pool(kind: str) -> Chain:
    def layers(call: Call, name: str) -> list[KerasLayer]:
        o = call.options
        layer = getattr(_keras(), kind)(
            (o.filterHeight, o.filterWidth), (o.strideH, o.strideW), PADDING[o.padding].lower(), name=name
        )
        return [layer, *_fused(call, name)]

    return layers


def _global_pool(kind: str) -> Chain:
    def layers(call: Call, name: str) -> list[KerasLayer]:
        return [getattr(_keras(), kind)(keepdims=len(call.shapes[0]) == 4, name=name)]

    return layers


def _merge(kind: str) -> Chain:
    def layers(call: Call, name: str) -> list[KerasLayer]:
        value = call.constants[1]
        if value is None:
            return [getattr(_keras(), kind)(name=name), *_fused(call, name)]
        scale = value.tolist() if kind == "Multiply" else 1.0
        offset = {"Add": value, "Subtract": -value, "Multiply": np.float32(0)}[kind].tolist()
        return [_keras().Rescaling(scale, offset, name=name), *_fused(call, name)]

    return layers


def _concatenate(call: Call, name: str) -> list[KerasLayer]:
    return [_keras().Concatenate(axis=call.options.axis, name=name), *_fused(call, name)]


def _pad(call: Call, name: str) -> list[KerasLayer]:
    widths = np.reshape(call.integers(1), (-1, 2)).tolist()
    return [_keras().ZeroPadding2D((tuple(widths[1]), tuple(widths[2])), name=name)]


def _permute(call: Call, name: str) -> list[KerasLayer]:
    return [_keras().Permute(tuple(call.integers(1)[1:]), name=name)]


LAYERS: dict[str, Chain] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": _pool("AveragePooling2D"),
    "MAX_POOL_2D": _pool("MaxPooling2D"),
    "MEAN": _global_pool("GlobalAveragePooling2D"),
    "REDUCE_MAX": _global_pool("GlobalMaxPooling2D"),
    "ADD": _merge("Add"),
    "SUB": _merge("Subtract"),
    "MUL": _merge("Multiply"),
    "CONCATENATION": _concatenate,
    "PAD": _pad,
    "TRANSPOSE": _permute,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "RELU": lambda _, name: [_activation("RELU", name)],
    "RELU6": lambda _, name: [_activation("RELU6", name)],
    "TANH": lambda _, name: [_activation("TANH", name)],
    "LOGISTIC": lambda _, name: [_activation("LOGISTIC", name)],
    "LEAKY_RELU": lambda call, name: [_keras().LeakyReLU(float(call.options.alpha), name=name)],
    "SOFTMAX": lambda _, name: [_keras().Softmax(name=name)],
}
"""Operators that have Keras layers."""
