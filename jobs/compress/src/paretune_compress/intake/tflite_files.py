"""Float .tflite files: checked, and given a signature where they have none."""

from math import prod
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import TensorInfo

from .. import flatbuffer as fb

ELEMENTS_LIMIT = 2**31
SIGNATURE = "serving_default"
_WEIGHT_BYTES = {"INT8", "UINT8", "INT4", "INT2", "UINT4", "FLOAT16", "BFLOAT16"}


def normalized(path: Path, uri: str) -> fb.Model:
    """The model of a float .tflite with a signature and batch 1.

    Raises:
        StageError: MODEL_UNREADABLE, MODEL_UNSUPPORTED or MODEL_QUANTIZED.
    """
    try:
        model = fb.read(path)
    except StageError as error:
        raise StageError(error.reason, f"{uri}: {error.message.split(': ', 1)[-1]}") from error
    _check_structure(model, uri)
    _check_operators(model, uri)
    _check_float(model, uri)
    _check_inputs(model, uri)
    if not model.signatureDefs:
        model.signatureDefs = [_signature(model.subgraphs[0])]
    return model


def tensor_infos(model: fb.Model, *, inputs: bool) -> tuple[TensorInfo, ...]:
    """Inputs or outputs by their names in the signature."""
    graph = model.subgraphs[0]
    indices = graph.inputs if inputs else graph.outputs
    names: dict[int, str] = {}
    for signature in model.signatureDefs or []:
        for entry in (signature.inputs if inputs else signature.outputs) or []:
            names.setdefault(int(entry.tensorIndex), _text(entry.name))
    return tuple(
        TensorInfo(
            name=names.get(int(i)) or fb.tensor_name(graph.tensors[i]),
            shape=fb.shape(graph.tensors[i]),
            dtype=fb.type_name(graph.tensors[i]).lower(),
        )
        for i in indices
    )


def _check_structure(model: fb.Model, uri: str) -> None:
    """Indices, shapes and buffer lengths: the runtime trusts them, so they are checked first."""

    def broken(cause: str) -> StageError:
        return StageError(Reason.MODEL_UNREADABLE, f"{uri}: the flatbuffer is inconsistent: {cause}")

    for graph in model.subgraphs:
        count = len(graph.tensors or [])
        for number, tensor in enumerate(graph.tensors or []):
            shape = fb.shape(tensor)
            if any(d < 0 for d in shape) or prod(shape) > ELEMENTS_LIMIT:
                raise broken(f"tensor {number} ({fb.tensor_name(tensor)!r}) has shape {list(shape)}")
            if not 0 <= tensor.buffer < len(model.buffers):
                raise broken(f"tensor {number} refers to buffer {tensor.buffer} of {len(model.buffers)}")
            data = model.buffers[tensor.buffer].data
            kind = fb.NUMPY_TYPES.get(fb.type_name(tensor))
            if data is not None and len(data) and kind is not None and fb.type_name(tensor) != "INT4":
                expected = prod(shape) * _bytes_of(kind)
                if len(data) != expected:
                    raise broken(
                        f"tensor {number} ({fb.tensor_name(tensor)!r}) of shape {list(shape)} needs {expected} "
                        f"bytes and has {len(data)}"
                    )
        for operator in graph.operators or []:
            indices = [*_list(operator.inputs), *_list(operator.outputs)]
            if any(not -1 <= i < count for i in indices):
                raise broken(f"an operator refers to tensor {max(indices)} of {count}")
        for i in [*_list(graph.inputs), *_list(graph.outputs)]:
            if not 0 <= i < count:
                raise broken(f"the graph's inputs or outputs refer to tensor {i} of {count}")
    graph = model.subgraphs[0]
    if not _list(graph.inputs) or not _list(graph.outputs) or not graph.operators:
        raise broken("it has no inputs, no outputs or no operators")


def _check_operators(model: fb.Model, uri: str) -> None:
    for operator in model.subgraphs[0].operators:
        name = fb.operator_name(model, operator)
        custom = model.operatorCodes[operator.opcodeIndex].customCode
        if custom:
            raise StageError(
                Reason.MODEL_UNSUPPORTED,
                f"{uri}: the custom operator {_text(custom)!r} is not part of LiteRT; convert the model with "
                "built-in operators only",
            )
        if not name:
            raise StageError(Reason.MODEL_UNSUPPORTED, f"{uri}: an operator that this LiteRT does not know")


def _check_float(model: fb.Model, uri: str) -> None:
    for graph in model.subgraphs:
        for number, tensor in enumerate(graph.tensors or []):
            kind = fb.type_name(tensor)
            scaled = len(fb.scales(tensor)) > 0 and kind not in ("FLOAT32", "INT32", "INT64")
            if scaled or kind in _WEIGHT_BYTES:
                raise StageError(
                    Reason.MODEL_QUANTIZED,
                    f"{uri}: tensor {number} ({fb.tensor_name(tensor)!r}) is {kind}: the model is quantized "
                    "already; give the float model that it was made from",
                )


def _check_inputs(model: fb.Model, uri: str) -> None:
    graph = model.subgraphs[0]
    for i in graph.inputs:
        tensor = graph.tensors[i]
        if fb.type_name(tensor) != "FLOAT32":
            raise StageError(
                Reason.MODEL_UNSUPPORTED,
                f"{uri}: input {fb.tensor_name(tensor)!r} is {fb.type_name(tensor)}; expected float32 inputs",
            )
        if not fb.shape(tensor) or fb.shape(tensor)[0] != 1:
            raise StageError(
                Reason.MODEL_UNSUPPORTED,
                f"{uri}: input {fb.tensor_name(tensor)!r} has shape {list(fb.shape(tensor))}; expected a batch "
                "of 1 in front",
            )


def _signature(graph: Any) -> Any:
    def entries(indices: Any) -> list[Any]:
        found = []
        for i in indices:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = fb.tensor_name(graph.tensors[i]), int(i)
            found.append(entry)
        return found

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs, signature.outputs = entries(graph.inputs), entries(graph.outputs)
    return signature


def _bytes_of(kind: Any) -> int:
    import numpy as np

    return int(np.dtype(kind).itemsize)


def _list(values: Any) -> list[int]:
    return [] if values is None else [int(v) for v in values]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
