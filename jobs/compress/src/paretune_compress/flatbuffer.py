"""The .tflite flatbuffer through its object API: operators, constants, canonical bytes.

`Model` is `schema_py_generated.ModelT`. Only the first subgraph is looked at: models with control flow keep
theirs untouched in the others.
"""

import contextlib
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError

from . import sparse

Model = Any
Operator = Any
Tensor = Any
Array = NDArray[Any]

IDENTIFIER = b"TFL3"
OPERATOR_NAMES: dict[int, str] = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
TYPE_NAMES: dict[int, str] = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
NUMPY_TYPES: dict[str, Any] = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT4": np.int8,  # two values in a byte, the first in the low half
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "BOOL": np.bool_,
}


def read(path: Path) -> Model:
    """The model in the file `path`.

    Raises:
        StageError: MODEL_UNREADABLE when the file is no .tflite.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StageError(
            Reason.MODEL_UNREADABLE, f"{path}: cannot be read: {error.strerror or error}"
        ) from error
    return load(data, str(path))


def load(data: bytes, name: str = "model") -> Model:
    """The model in `data`; `name` says in errors which one it is.

    Raises:
        StageError: MODEL_UNREADABLE when the bytes are no .tflite flatbuffer.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise StageError(
            Reason.MODEL_UNREADABLE,
            f"{name}: not a .tflite file: bytes 4-8 are {bytes(data[4:8])!r}, expected {IDENTIFIER!r}",
        )
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(data, 0))
        for buffer in model.buffers:
            _bring_inside(buffer, data)
        operators = model.subgraphs[0].operators
        for op in operators:
            operator_name(model, op)
    except Exception as error:  # the generated reader checks nothing: any error means broken bytes
        raise StageError(
            Reason.MODEL_UNREADABLE,
            f"{name}: the flatbuffer is damaged or truncated ({type(error).__name__}: {error})",
        ) from error
    return model


def pack(model: Model) -> bytes:
    """Bytes of the model. Equal models give equal bytes: the writer is deterministic."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def operator_name(model: Model, op: Operator) -> str:
    """Name of the operator as in the schema, such as CONV_2D; custom operators by their own name."""
    code = model.operatorCodes[op.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        custom = code.customCode
        return "CUSTOM " + (custom.decode(errors="replace") if isinstance(custom, bytes) else str(custom))
    return OPERATOR_NAMES[number]


def tensor_name(tensor: Tensor) -> str:
    """Name of the tensor; empty when the file has none."""
    name = tensor.name
    return name.decode(errors="replace") if isinstance(name, bytes) else (name or "")


def type_name(tensor: Tensor) -> str:
    """Element type as in the schema, such as INT8."""
    return TYPE_NAMES.get(tensor.type, str(tensor.type))


def shape(tensor: Tensor) -> tuple[int, ...]:
    """Static shape of the tensor; () for scalars and for tensors without one."""
    return () if tensor.shape is None else tuple(int(d) for d in tensor.shape)


def scales(tensor: Tensor) -> Array:
    """Quantization scales, float32, of length 0 (none), 1 (per tensor) or one per channel."""
    q = tensor.quantization
    if q is None or q.scale is None:
        return np.zeros(0, np.float32)
    return np.asarray(q.scale, np.float32)


def is_constant(model: Model, index: int) -> bool:
    """Whether the tensor's values stand in the file."""
    if index < 0:
        return False
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data
    return data is not None and len(data) > 0


def constant(model: Model, index: int) -> Array | None:
    """Values of a constant tensor in its stored layout (int4 unpacked to int8); None for activations.

    What is stored sparsely comes with its zeros. The array may be a read-only view of the model.

    Raises:
        StageError: MODEL_UNREADABLE when the tensor is stored sparsely in a form that is not known.
    """
    if not is_constant(model, index):
        return None
    tensor = model.subgraphs[0].tensors[index]
    kind = type_name(tensor)
    if kind not in NUMPY_TYPES:
        return None
    raw = np.ascontiguousarray(np.asarray(model.buffers[tensor.buffer].data, np.uint8))
    dims = shape(tensor)
    if tensor.sparsity is not None:
        return _decoded(tensor, raw)
    if kind == "INT4":
        return _unpack_int4(raw, int(np.prod(dims))).reshape(dims)
    values: Array = raw.view(NUMPY_TYPES[kind]).reshape(dims)
    return values


def set_constant(model: Model, index: int, value: Array) -> None:
    """Overwrite the values of a constant tensor; its type and shape stay.

    A buffer that other tensors share (the converter merges equal constants) is left to them, and the tensor
    gets one of its own.

    Raises:
        ValueError: when shape or type differ from the tensor's, or it is stored sparsely.
    """
    graph = model.subgraphs[0]
    tensor = graph.tensors[index]
    kind = type_name(tensor)
    if tensor.sparsity is not None:
        raise ValueError(f"tensor {index} is stored sparsely")
    if value.shape != shape(tensor) or value.dtype != np.dtype(NUMPY_TYPES[kind]):
        raise ValueError(
            f"tensor {index} is {kind}{list(shape(tensor))}, the new value {value.dtype}{list(value.shape)}"
        )
    packed = _pack_int4(value) if kind == "INT4" else np.frombuffer(value.tobytes(), np.uint8)
    users = sum(t.buffer == tensor.buffer for g in model.subgraphs for t in g.tensors)
    if users > 1:
        model.buffers.append(schema.BufferT())
        tensor.buffer = len(model.buffers) - 1
    model.buffers[tensor.buffer].data = packed


def write(model: Model, path: Path) -> None:
    """Write the model's bytes; the file appears whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_bytes(pack(model))
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _bring_inside(buffer: Any, data: bytes) -> None:
    """Large files keep their weights behind the flatbuffer; packing must not lose them."""
    if buffer.offset > 1:
        if buffer.offset + buffer.size > len(data):
            raise ValueError(f"a buffer ends at byte {buffer.offset + buffer.size} of {len(data)}")
        buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0


def _decoded(tensor: Tensor, raw: Array) -> Array:
    dtype = np.int8 if type_name(tensor) == "INT4" else NUMPY_TYPES[type_name(tensor)]
    try:
        return sparse.decode(raw, dtype, shape(tensor), tensor.sparsity)
    except ValueError as error:
        raise StageError(
            Reason.MODEL_UNREADABLE, f"tensor {tensor_name(tensor)!r} cannot be read: {error}"
        ) from error


def _unpack_int4(raw: Array, n: int) -> Array:
    low = (raw << 4).view(np.int8) >> 4
    high = raw.view(np.int8) >> 4
    return np.stack([low, high], axis=1).reshape(-1)[:n].astype(np.int8)


def _pack_int4(value: Array) -> Array:
    flat = value.reshape(-1)
    if flat.size % 2:
        flat = np.append(flat, np.int8(0))
    pairs = (flat.astype(np.uint8) & 0x0F).reshape(-1, 2)
    return (pairs[:, 0] | (pairs[:, 1] << 4)).astype(np.uint8)
