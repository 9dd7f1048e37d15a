"""Small .tflite files for tests, written tensor by tensor with the flatbuffer's own schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

Operators = schema.BuiltinOperator
TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
}


@dataclass
class Tensor:
    """One tensor; with `data` it is a constant, with `scale` it is quantized; `batch_open`
    leaves the size of the first axis open."""

    name: str
    shape: Sequence[int]
    dtype: str = "float32"
    data: Any = None
    scale: float | None = None
    zero_point: int = 0
    variable: bool = False
    batch_open: bool = False


@dataclass
class Operator:
    """One operator; tensors by name."""

    code: int
    inputs: Sequence[str]
    outputs: Sequence[str]
    options: Any = None
    options_type: int = 0


def fully_connected(inputs: Sequence[str], output: str, activation: int = 0) -> Operator:
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = activation
    return Operator(
        Operators.FULLY_CONNECTED, inputs, [output], options, schema.BuiltinOptions.FullyConnectedOptions
    )


def add(inputs: Sequence[str], output: str) -> Operator:
    return Operator(Operators.ADD, inputs, [output], schema.AddOptionsT(), schema.BuiltinOptions.AddOptions)


def softmax(source: str, output: str) -> Operator:
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return Operator(Operators.SOFTMAX, [source], [output], options, schema.BuiltinOptions.SoftmaxOptions)


def tflite(
    tensors: Sequence[Tensor],
    operators: Sequence[Operator],
    inputs: Sequence[str],
    outputs: Sequence[str],
    signature: Mapping[str, str] | None = None,
) -> bytes:
    """The file's bytes.

    Args:
        tensors: all tensors.
        operators: in execution order.
        inputs: names of the graph's inputs.
        outputs: names of the graph's outputs.
        signature: signature name -> tensor name, for inputs and outputs together; None writes none.
    """
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    index = {tensor.name: number for number, tensor in enumerate(tensors)}
    for tensor in tensors:
        written = schema.TensorT()
        written.name, written.shape, written.type = tensor.name, list(tensor.shape), TYPES[tensor.dtype]
        written.isVariable, written.buffer = tensor.variable, 0
        if tensor.batch_open:
            written.shapeSignature = [-1, *tensor.shape[1:]]
        if tensor.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.asarray(tensor.data, tensor.dtype).tobytes(), np.uint8)
            written.buffer = len(model.buffers)
            model.buffers.append(buffer)
        if tensor.scale is not None:
            written.quantization = schema.QuantizationParametersT()
            written.quantization.scale, written.quantization.zeroPoint = [tensor.scale], [tensor.zero_point]
        graph.tensors.append(written)
    model.operatorCodes = []
    for operator in operators:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = operator.code, 1
        code.deprecatedBuiltinCode = min(operator.code, 127)
        written_operator = schema.OperatorT()
        written_operator.opcodeIndex = len(model.operatorCodes)
        written_operator.inputs = [index[name] for name in operator.inputs]
        written_operator.outputs = [index[name] for name in operator.outputs]
        written_operator.builtinOptions = operator.options
        written_operator.builtinOptionsType = operator.options_type
        model.operatorCodes.append(code)
        graph.operators.append(written_operator)
    graph.inputs, graph.outputs = [index[name] for name in inputs], [index[name] for name in outputs]
    model.subgraphs = [graph]
    if signature is not None:
        model.signatureDefs = [_signature(signature, index, inputs)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _signature(names: Mapping[str, str], index: Mapping[str, int], inputs: Sequence[str]) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [], []
    for name, tensor in names.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index[tensor]
        (signature.inputs if tensor in inputs else signature.outputs).append(entry)
    return signature


def dense(
    weights: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    probabilities: bool = False,
    signature: bool = True,
) -> bytes:
    """y = x W^T + b for x of shape [1, columns of W]; signature names `x` and `y`."""
    outputs, inputs = weights.shape
    tensors = [
        Tensor("serving_default_x:0", [1, inputs]),
        Tensor("w", weights.shape, data=weights),
        Tensor("b", [outputs], data=np.zeros(outputs) if bias is None else bias),
        Tensor("logits", [1, outputs]),
    ]
    operators = [fully_connected(["serving_default_x:0", "w", "b"], "logits")]
    if probabilities:
        tensors.append(Tensor("probabilities", [1, outputs]))
        operators.append(softmax("logits", "probabilities"))
    last = tensors[-1].name if probabilities else "logits"
    names = {"x": "serving_default_x:0", "y": last} if signature else None
    return tflite(tensors, operators, ["serving_default_x:0"], [last], names)
