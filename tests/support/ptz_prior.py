"""Two made-up networks, which the coder of containers of the former native method has seen before it begins.

`PYTHONPATH=tests python -m support.ptz_prior` writes them anew into jobs/codec. Their bytes must stay as they
are: containers written with them must stay readable.
"""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

ROOT = Path(__file__).parents[2]
FLOAT32, INT32, INT8 = 0, 2, 9
RELU = {"fusedActivationFunction": 1}


class Network:
    """Collects operators. With `names` tensors are numbered and named as the converter does."""

    def __init__(self, names: bool) -> None:
        self.names = names
        self.model, self.graph = schema.ModelT(), schema.SubGraphT()
        self.model.version = 3
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]
        self.codes: dict[int, int] = {}
        self.last = ""

    def tensor(self, name: str, shape: list[int], kind: int, constant: bool = False, scales: int = 1) -> Any:
        tensor = schema.TensorT()
        tensor.shape, tensor.type = shape, kind
        if kind != FLOAT32:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [1.0] * scales, [0] * scales
            if scales > 1 and len(shape) == 4 and shape[0] == 1:
                tensor.quantization.quantizedDimension = 3
        if self.names:
            tensor.name, tensor.hasRank = name, True
        if constant:
            buffer = schema.BufferT()
            size = int(np.prod(shape)) * {INT8: 1, INT32: 4, FLOAT32: 4}[kind]
            buffer.data = np.zeros(size, np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        return tensor

    def operator(self, name: str, version: int, inputs: list[Any], output: Any, options: Any = None) -> Any:
        number = getattr(schema.BuiltinOperator, name)
        if number not in self.codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
            self.codes[number] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = self.codes[number], inputs, [output]
        if options is not None:
            op.builtinOptions = options
            op.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(op)
        return output

    def kernel(
        self, kind: str, x: Any, shape: list[int], out: list[int], label: str, options: Any, relu: bool
    ) -> Any:
        depthwise = kind == "DEPTHWISE_CONV_2D"
        channels = shape[3] if depthwise else shape[0]
        op = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "depthwise", "FULLY_CONNECTED": "MatMul"}[kind]
        scales = channels if self.names and kind != "FULLY_CONNECTED" else 1
        norm = "model/activation/Relu;model/batch_normalization/FusedBatchNormV3"
        normed = f"{norm};model/{label}/BiasAdd/ReadVariableOp;"
        full = f"{normed if relu else ''}model/{label}/BiasAdd;model/{label}/{op}"
        bias = self.tensor(full, [channels], INT32, True, scales)
        weights = self.tensor(f"model/{label}/{op}", shape, INT8, True, scales)
        version = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4}[kind]
        made = self.tensor(f"{full}1" if relu else full, out, INT8)
        return self.operator(kind, version, [x, weights, bias], made, options)

    def bytes(self, inputs: list[Any], outputs: list[Any]) -> bytes:
        for op in self.graph.operators:
            for tensor in [*op.inputs, *op.outputs]:
                if not any(tensor is t for t in self.graph.tensors):
                    self.graph.tensors.append(tensor)
        if self.names:  # the converter's order: inputs, constants, the rest
            rank = {
                id(t): (0 if any(t is i for i in inputs) else 1 if t.buffer else 2)
                for t in self.graph.tensors
            }
            self.graph.tensors.sort(key=lambda t: rank[id(t)])
            self._label(inputs, outputs)
        number = {id(t): i for i, t in enumerate(self.graph.tensors)}
        for op in self.graph.operators:
            op.inputs, op.outputs = [number[id(t)] for t in op.inputs], [number[id(t)] for t in op.outputs]
        self.graph.inputs, self.graph.outputs = (
            [number[id(t)] for t in inputs],
            [number[id(t)] for t in outputs],
        )
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _label(self, inputs: list[Any], outputs: list[Any]) -> None:
        self.model.description, self.graph.name = "MLIR Converted.", "main"
        self.model.metadata = []
        for name, size in (("min_runtime_version", 16), ("CONVERSION_METADATA", 96)):
            buffer, entry = schema.BufferT(), schema.MetadataT()
            buffer.data = np.zeros(size, np.uint8)
            self.model.buffers.append(buffer)
            entry.name, entry.buffer = name, len(self.model.buffers) - 1
            self.model.metadata.append(entry)
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [
            [self._map(t) for t in tensors] for tensors in (inputs, outputs)
        ]
        self.model.signatureDefs = [signature]

    def _map(self, tensor: Any) -> Any:
        entry = schema.TensorMapT()
        entry.name = tensor.name
        entry.tensorIndex = next(i for i, t in enumerate(self.graph.tensors) if t is tensor)
        return entry


def _options(kind: str, **values: int) -> Any:
    made = getattr(schema, f"{kind}OptionsT")()
    for key, value in values.items():
        setattr(made, key, value)
    return made


def _conv(kind: str = "Conv2D", stride: int = 1, padding: int = 0, relu: bool = True, **more: int) -> Any:
    return _options(
        kind, strideH=stride, strideW=stride, dilationHFactor=1, dilationWFactor=1, padding=padding,
        fusedActivationFunction=int(relu), **more,
    )  # fmt: skip


def network(names: bool) -> bytes:
    """A small convolutional network in int8 with one of each common operator."""
    n = Network(names)
    given = x = n.tensor("serving_default_input_1:0", [1, 28, 28, 1], FLOAT32 if names else INT8)
    if names:
        x = n.operator("QUANTIZE", 1, [x], n.tensor("tfl.quantize", [1, 28, 28, 1], INT8))
    x = n.kernel("CONV_2D", x, [8, 3, 3, 1], [1, 28, 28, 8], "conv2d", _conv(), True)
    pool = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 1}
    pooled = n.tensor("model/max_pooling2d/MaxPool", [1, 14, 14, 8], INT8)
    x = n.operator("MAX_POOL_2D", 2, [x], pooled, _options("Pool2D", **pool))
    x = n.kernel("CONV_2D", x, [24, 5, 5, 8], [1, 10, 10, 24], "conv2d_1", _conv(padding=1), True)
    dw = _conv("DepthwiseConv2D", depthMultiplier=1)
    x = n.kernel("DEPTHWISE_CONV_2D", x, [1, 3, 3, 24], [1, 10, 10, 24], "depthwise_conv2d", dw, True)
    short = x = n.kernel("CONV_2D", x, [24, 1, 1, 24], [1, 10, 10, 24], "conv2d_2", _conv(), True)
    x = n.kernel("DEPTHWISE_CONV_2D", x, [1, 3, 3, 24], [1, 10, 10, 24], "depthwise_conv2d_1", dw, True)
    x = n.kernel("CONV_2D", x, [24, 1, 1, 24], [1, 10, 10, 24], "conv2d_3", _conv(relu=False), False)
    added = n.tensor("model/activation_1/Relu;model/add/add", [1, 10, 10, 24], INT8)
    x = n.operator("ADD", 2, [short, x], added, _options("Add", potScaleInt16=True, **RELU))
    x = n.kernel("CONV_2D", x, [48, 3, 3, 24], [1, 5, 5, 48], "conv2d_4", _conv(stride=2), True)
    whole = {"filterHeight": 5, "filterWidth": 5, "strideH": 5, "strideW": 5, "padding": 1}
    pooled = n.tensor("model/average_pooling2d/AvgPool", [1, 1, 1, 48], INT8)
    x = n.operator("AVERAGE_POOL_2D", 2, [x], pooled, _options("Pool2D", **whole))
    shape = n.tensor("model/flatten/Const", [2], INT32, True)
    shape.quantization = None
    reshaped = n.tensor("model/flatten/Reshape", [1, 48], INT8)
    x = n.operator("RESHAPE", 1, [x, shape] if names else [x], reshaped, None if names else _reshape())
    x = n.kernel("FULLY_CONNECTED", x, [100, 48], [1, 100], "dense", _options("FullyConnected", **RELU), True)
    x = n.kernel("FULLY_CONNECTED", x, [10, 100], [1, 10], "dense_1", _options("FullyConnected"), False)
    x = n.operator(
        "SOFTMAX", 2, [x], n.tensor("StatefulPartitionedCall:0", [1, 10], INT8), _options("Softmax", beta=1.0)
    )
    if names:
        x = n.operator("DEQUANTIZE", 2, [x], n.tensor("PartitionedCall:01", [1, 10], FLOAT32))
    return n.bytes([given], [x])


def _reshape() -> Any:
    made = schema.ReshapeOptionsT()
    made.newShape = [-1, 48]
    return made


def python_module() -> str:
    """Source of `paretune_codec.prior_stream`."""
    from paretune_codec.prior import encoded

    lengths, stream = encoded([network(True), network(False)])
    text = stream.hex()
    rows = "\n".join(f'    "{text[i : i + 100]}"' for i in range(0, len(text), 100))
    return _MODULE.format(lengths=lengths, rows=rows)


_MODULE = '''"""What the coder has seen before it begins: two made-up networks, coded.

Made by tests/support/ptz_prior.py; not written by hand.
"""

LENGTHS = {lengths}
"""Bytes of the flatbuffers."""
STREAM = bytes.fromhex(
{rows}
)
'''
if __name__ == "__main__":
    codec = ROOT / "jobs/codec"
    (codec / "src/paretune_codec/prior_stream.py").write_text(python_module())
