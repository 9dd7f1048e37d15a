"""Float .tflite files: checked, and given names and a signature.

Native code never reads the bytes of the user's file: they are read by the bounds-checked object API, looked
through here, and written anew.
"""

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import TensorInfo

from .. import flatbuffer as fb

BYTES_LIMIT = 2**31
SIGNATURE = "serving_default"
MAX_SUBGRAPHS = 1000
_QUANTIZED_TYPES = frozenset({"INT8", "UINT8", "INT16", "INT4", "INT2", "UINT4", "FLOAT16", "BFLOAT16"})
_FLEX = "Flex"


def normalized(data: bytes, uri: str) -> fb.Model:
    """The model of a float .tflite, with a signature `serving_default` and batch 1.

    Raises:
        StageError: MODEL_UNREADABLE, MODEL_UNSUPPORTED or MODEL_QUANTIZED.
    """
    _check_counts(data, uri)
    try:
        model = fb.load(data, uri)
    except (MemoryError, RecursionError) as error:
        raise _broken(uri, f"{type(error).__name__}") from error
    _check_structure(model, uri)
    _check_operators(model, uri)
    _check_float(model, uri)
    _check_inputs(model, uri)
    if SIGNATURE not in [_text(s.signatureKey) for s in model.signatureDefs or []]:
        model.signatureDefs = [_signature(model), *(model.signatureDefs or [])]
    return model


def renamed(model: fb.Model, inputs: Sequence[str], outputs: Sequence[str]) -> fb.Model:
    """A converted model with the source's names instead of the signature's keys in0, ..., out0, ..."""
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    for entries, prefix, names in ((signature.inputs, "in", inputs), (signature.outputs, "out", outputs)):
        for entry in entries:
            entry.name = names[int(_text(entry.name).removeprefix(prefix))]
            tensor = graph.tensors[entry.tensorIndex]
            if "PartitionedCall" in fb.tensor_name(tensor) or prefix == "in":
                tensor.name = entry.name
    signature.signatureKey = SIGNATURE
    model.signatureDefs = [signature]
    return model


def tensor_infos(model: fb.Model, *, inputs: bool) -> tuple[TensorInfo, ...]:
    """Inputs or outputs in the file's order, by their names in the signature."""
    graph = model.subgraphs[0]
    names: dict[int, str] = {}
    for signature in model.signatureDefs or []:
        if _text(signature.signatureKey) == SIGNATURE:
            for entry in (signature.inputs if inputs else signature.outputs) or []:
                names.setdefault(int(entry.tensorIndex), _text(entry.name))
    return tuple(
        TensorInfo(
            name=names.get(int(i)) or fb.tensor_name(graph.tensors[i]),
            shape=fb.shape(graph.tensors[i]),
            dtype=fb.type_name(graph.tensors[i]).lower(),
        )
        for i in (graph.inputs if inputs else graph.outputs)
    )


# --- checks -------------------------------------------------------------------------------------------------


def _broken(uri: str, cause: str) -> StageError:
    return StageError(Reason.MODEL_UNREADABLE, f"{uri}: the flatbuffer is damaged or truncated: {cause}")


def _unsupported(uri: str, cause: str) -> StageError:
    return StageError(Reason.MODEL_UNSUPPORTED, f"{uri}: {cause}")


def _check_counts(data: bytes, uri: str) -> None:
    """Every table takes at least four bytes of the file; more of them than that are an absurd loop."""
    if len(data) < 8 or data[4:8] != fb.IDENTIFIER:
        raise StageError(
            Reason.MODEL_UNREADABLE,
            f"{uri}: not a .tflite file: bytes 4-8 are {data[4:8]!r}, expected {fb.IDENTIFIER!r}",
        )
    limit = len(data) // 4
    try:
        root = schema.Model.GetRootAsModel(data, 0)
        graphs = root.SubgraphsLength()
        tables = root.OperatorCodesLength() + root.BuffersLength() + root.SignatureDefsLength()
        tables += root.MetadataLength() + graphs
        if graphs > MAX_SUBGRAPHS or tables > limit:
            raise _broken(uri, f"it claims {graphs:,} subgraphs and {tables:,} tables in {len(data):,} bytes")
        counts: list[Callable[[], int]] = []
        for i in range(graphs):
            graph = root.Subgraphs(i)
            counts += [graph.TensorsLength, graph.OperatorsLength, graph.InputsLength, graph.OutputsLength]
        for i in range(root.SignatureDefsLength()):
            counts += [root.SignatureDefs(i).InputsLength, root.SignatureDefs(i).OutputsLength]
        tables += sum(count() for count in counts)
    except StageError:
        raise
    except Exception as error:  # offsets that point outside
        raise _broken(uri, str(error)[:200]) from error
    if tables > limit:
        raise _broken(uri, f"it claims {tables:,} tables in {len(data):,} bytes")


def _check_structure(model: fb.Model, uri: str) -> None:
    """Indices, shapes and buffer lengths: the runtime trusts them."""
    if not model.subgraphs or not model.buffers:
        raise _broken(uri, "it has no subgraph or no buffers")
    for graph in model.subgraphs:
        count = len(graph.tensors or [])
        for number, tensor in enumerate(graph.tensors or []):
            _check_tensor(model, number, tensor, uri)
        for operator in graph.operators or []:
            _check_operator(model, operator, count, uri)
        for i in [*_list(graph.inputs), *_list(graph.outputs)]:
            if not 0 <= i < count:
                raise _broken(uri, f"the inputs or outputs refer to tensor {i} of {count}")
    graph = model.subgraphs[0]
    if not _list(graph.inputs) or not _list(graph.outputs) or not graph.operators:
        raise _broken(uri, "it has no inputs, no outputs or no operators")
    _check_signatures(model, uri)


def _check_operator(model: fb.Model, operator: fb.Operator, count: int, uri: str) -> None:
    if not 0 <= operator.opcodeIndex < len(model.operatorCodes or []):
        raise _broken(uri, f"an operator has the code {operator.opcodeIndex}")
    used, made = _list(operator.inputs), _list(operator.outputs)
    used += _list(operator.intermediates)
    if any(not -1 <= i < count for i in used) or any(not 0 <= i < count for i in made):
        raise _broken(uri, f"an operator refers to tensors {used} and {made} of {count}"[:300])


def _check_signatures(model: fb.Model, uri: str) -> None:
    for signature in model.signatureDefs or []:
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            raise _broken(uri, f"a signature refers to subgraph {signature.subgraphIndex}")
        count = len(model.subgraphs[signature.subgraphIndex].tensors or [])
        for entry in [*(signature.inputs or []), *(signature.outputs or [])]:
            if not 0 <= entry.tensorIndex < count:
                raise _broken(uri, f"a signature refers to tensor {entry.tensorIndex} of {count}")


def _check_tensor(model: fb.Model, number: int, tensor: fb.Tensor, uri: str) -> None:
    shape, kind = fb.shape(tensor), fb.type_name(tensor)
    where = f"tensor {number} ({fb.tensor_name(tensor)[:100]!r})"
    itemsize = np.dtype(fb.NUMPY_TYPES.get(kind, np.int8)).itemsize
    if any(size < 0 for size in shape) or prod(shape) * itemsize > BYTES_LIMIT:
        raise _broken(uri, f"{where} has the absurd shape {list(shape)}")
    if not 0 <= tensor.buffer < len(model.buffers):
        raise _broken(uri, f"{where} refers to buffer {tensor.buffer} of {len(model.buffers)}")
    if tensor.sparsity is not None:
        raise _unsupported(uri, f"{where} is stored sparsely; give the dense float model")
    signature = _list(tensor.shapeSignature)
    if signature and len(signature) != len(shape):
        raise _broken(uri, f"{where} has shape {list(shape)} and the shape signature {signature}")
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or kind in ("STRING", "RESOURCE", "VARIANT"):
        return
    bits = {"INT4": 4, "UINT4": 4, "INT2": 2}.get(kind, itemsize * 8)
    expected = (prod(shape) * bits + 7) // 8
    if kind in fb.NUMPY_TYPES and len(data) != expected:
        raise _broken(uri, f"{where} of shape {list(shape)} needs {expected:,} bytes and has {len(data):,}")


def _check_operators(model: fb.Model, uri: str) -> None:
    for graph in model.subgraphs:
        for operator in graph.operators or []:
            code = model.operatorCodes[operator.opcodeIndex]
            number = max(code.builtinCode, code.deprecatedBuiltinCode)
            if code.customCode or number == schema.BuiltinOperator.CUSTOM:
                name = _text(code.customCode)[:100]
                flex = " (TensorFlow's own, by the Flex delegate)" if name.startswith(_FLEX) else ""
                raise _unsupported(
                    uri,
                    f"the custom operator {name!r}{flex} is not part of LiteRT; "
                    "convert the model with built-in operators only",
                )
            if number not in fb.OPERATOR_NAMES:
                raise _unsupported(uri, f"operator {number} is not known to this LiteRT")
            if operator.builtinOptions2Type or fb.OPERATOR_NAMES[number].startswith("STABLEHLO"):
                raise _unsupported(
                    uri, f"the operator {fb.OPERATOR_NAMES[number]} is not one that LiteRT's CPU kernels run"
                )


def _check_float(model: fb.Model, uri: str) -> None:
    for graph in model.subgraphs:
        for number, tensor in enumerate(graph.tensors or []):
            kind = fb.type_name(tensor)
            if kind in _QUANTIZED_TYPES and (len(fb.scales(tensor)) or kind in ("FLOAT16", "BFLOAT16")):
                raise StageError(
                    Reason.MODEL_QUANTIZED,
                    f"{uri}: tensor {number} ({fb.tensor_name(tensor)[:100]!r}) is {kind}: the model is "
                    "quantized already; give the float model that it was made from",
                )


def _check_inputs(model: fb.Model, uri: str) -> None:
    graph = model.subgraphs[0]
    names = set[str]()
    for i in graph.inputs:
        tensor = graph.tensors[i]
        name, shape = fb.tensor_name(tensor)[:100], fb.shape(tensor)
        if fb.type_name(tensor) != "FLOAT32":
            raise _unsupported(uri, f"input {name!r} is {fb.type_name(tensor)}; expected float32")
        if not shape or shape[0] != 1:
            raise _unsupported(uri, f"input {name!r} has shape {list(shape)}; expected a batch of 1 in front")
        signature = _list(tensor.shapeSignature)
        if any(size < 0 for size in signature[1:]):
            raise _unsupported(
                uri, f"input {name!r} has shape {signature}; every axis but the first needs a fixed size"
            )
        if name in names:
            raise _broken(uri, f"two inputs are named {name!r}")
        names.add(name)


def _signature(model: fb.Model) -> Any:
    """A signature for the first subgraph: one that is there under another key, or the tensors' names."""
    graph = model.subgraphs[0]
    there = next((s for s in model.signatureDefs or [] if s.subgraphIndex == 0), None)

    def entries(indices: Any, known: Any) -> list[Any]:
        names = {int(entry.tensorIndex): _text(entry.name) for entry in known or []}
        found = []
        for place, i in enumerate(indices):
            entry = schema.TensorMapT()
            plain = fb.tensor_name(graph.tensors[i]).removeprefix(f"{SIGNATURE}_").split(":")[0]
            entry.name, entry.tensorIndex = names.get(int(i)) or plain or f"tensor_{place}", int(i)
            found.append(entry)
        return found

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs = entries(graph.inputs, there.inputs if there else None)
    signature.outputs = entries(graph.outputs, there.outputs if there else None)
    return signature


def read_bytes(path: Path, uri: str) -> bytes:
    """A file's bytes.

    Raises:
        StageError: MODEL_UNREADABLE.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StageError(Reason.MODEL_UNREADABLE, f"{uri}: {error.strerror or error}") from error


def _list(values: Any) -> list[int]:
    return [] if values is None else [int(v) for v in values]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
