"""Float weights stored without their zeros, in the sparse encoding of the .tflite format.

Kernels for ARM compute with such weights as they stand; elsewhere LiteRT makes them dense again when it loads
the file, and runs as fast as before. Either way the file is smaller: a tensor pays for the positions of its
weights, for tables, and often for an operator that makes it dense again; it stays dense where all that is
more than its zeros took.

Tensors are encoded as TensorFlow's converter encodes them (tensorflow.lite.python.convert.mlir_sparsify). Its
pass over the whole file is not taken: it renames operators, ends the process on damaged files, and stores
integers in a way that XNNPACK refuses, and float16 blocks so that fully connected operators read rubbish.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from paretune_contract.failure import Reason, StageError

from .. import flatbuffer as fb
from .. import sparse
from ..graph.description import WeightedOperator, weighted_operators
from ..shrink.verification import must_agree, random_samples

ENCODED_OPERATORS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
FLOATS = ("FLOAT32", "FLOAT16")
LEAST_ZEROS = 0.3
"""Share of zeros below which the converter stores a tensor densely."""
IN_BLOCKS = 0.9
"""Share of a tensor's zeros that must come in blocks of four for it to be stored in these."""
SPARSE_FULLY_CONNECTED = 8
"""First version of FULLY_CONNECTED whose kernels read sparse weights."""


@dataclass(frozen=True)
class Report:
    """What was stored sparsely.

    encoded: tensors that are now sparse, of `tensors` with weights; of these `blocks` in blocks of four.
    """

    encoded: int
    tensors: int
    blocks: int

    def sentence(self) -> str:
        """`5 of 7 tensors encoded (2 in blocks of four)`."""
        blocks = f" ({self.blocks} in blocks of four)" if self.blocks else ""
        return f"{self.encoded} of {self.tensors} tensors encoded{blocks}"


@dataclass(frozen=True)
class FileReport:
    """What was stored sparsely, and the bytes of the whole file before and after."""

    report: Report
    before: int
    after: int

    def sentence(self) -> str:
        """`5 of 7 tensors encoded (2 in blocks of four): file of 201,344 -> 54,128 bytes`."""
        return f"{self.report.sentence()}: file of {self.before:,} -> {self.after:,} bytes"


def encode_file(source: Path, target: Path) -> FileReport:
    """Store the weights of a float file sparsely, and hold the new file against the old one.

    Args:
        source: the dense .tflite.
        target: where the sparse one is written.

    Raises:
        StageError: STEP_FAILED when the outputs differ or the file has integer weights; NO_EFFECT when the
            file is not smaller by it; NOT_RUNNABLE when LiteRT refuses a file.
    """
    model, before = fb.read(source), fb.read(source)
    report = encode(model)
    fb.write(model, target)
    sizes = source.stat().st_size, target.stat().st_size
    if sizes[1] >= sizes[0]:
        raise StageError(
            Reason.NO_EFFECT,
            f"sparsity.encoding sparse: the file has {sizes[1]:,} bytes with it and {sizes[0]:,} without; "
            "expected more zeros, or encoding dense",
        )
    after = fb.read(target)
    _same_weights(before, after)
    must_agree(before, after, random_samples(before), "sparse encoding of the weights", Reason.STEP_FAILED)
    return FileReport(report, *sizes)


def encode(model: fb.Model) -> Report:
    """Store weights sparsely, in place, wherever that takes fewer bytes, all that goes with it counted.

    Raises:
        StageError: STEP_FAILED when the model has integer weights, NO_EFFECT when no tensor is encoded.
    """
    weights = weighted_operators(model)
    _must_be_float(model, weights)
    found: dict[int, sparse.Encoded] = {}
    seen = {tensor: weighted.operator for weighted in weights for tensor in weighted.tensors}
    for tensor, operator in seen.items():
        values = fb.constant(model, tensor)
        if values is None or operator not in ENCODED_OPERATORS or not _own(model, tensor):
            continue
        encoded = _encoded(values, operator)
        if encoded is not None and _saved(model, tensor, encoded) > 0:
            found[tensor] = encoded
    if not found:
        raise StageError(
            Reason.NO_EFFECT,
            f"sparsity.encoding sparse: none of the {len(seen)} weight tensors is smaller with it; expected "
            f"{LEAST_ZEROS:.0%} of zeros at least in convolutions or fully connected layers, half of float16 "
            "weights, and more in tensors of a few hundred weights, or encoding dense",
        )
    for tensor, encoded in found.items():
        _store(model, tensor, encoded)
    return Report(
        encoded=len(found),
        tensors=len(seen),
        blocks=sum(one.block > 1 for one in found.values()),
    )


def _must_be_float(model: fb.Model, weights: Sequence[WeightedOperator]) -> None:
    tensors = model.subgraphs[0].tensors
    for weighted in weights:
        kinds = {fb.type_name(tensors[t]) for t in weighted.tensors} - set(FLOATS)
        if kinds:
            raise StageError(
                Reason.STEP_FAILED,
                f"sparsity.encoding sparse: the weights of a {weighted.operator} are "
                f"{', '.join(sorted(kinds))}, and LiteRT runs sparse weights only as float32 and float16; "
                "expected quantization.scheme none or float16",
            )


def _own(model: fb.Model, tensor: int) -> bool:
    """Whether nobody but operators reads the tensor, and no other tensor its bytes."""
    buffer = model.subgraphs[0].tensors[tensor].buffer
    users = sum(t.buffer == buffer for graph in model.subgraphs for t in graph.tensors)
    return users == 1 and tensor not in {int(t) for t in model.subgraphs[0].outputs}


def _encoded(values: fb.Array, operator: str) -> sparse.Encoded | None:
    """The tensor as the converter encodes it; None where it leaves it dense."""
    # Without any value the buffer would be empty, which is what marks an activation.
    zeros = values.size - np.count_nonzero(values)
    if values.ndim not in (2, 4) or zeros < LEAST_ZEROS * values.size or zeros == values.size:
        return None
    if operator == "FULLY_CONNECTED" and values.ndim == 2 and values.shape[-1] % sparse.BLOCK == 0:
        blocks = sparse.encode(values, sparse.BLOCK)
        if values.size - blocks.values.size > IN_BLOCKS * zeros:
            return blocks
    return sparse.encode(values)


def _saved(model: fb.Model, index: int, encoded: sparse.Encoded) -> int:
    """Bytes by which the file becomes smaller, about: tables that others could share count in full."""
    tensor = model.subgraphs[0].tensors[index]
    stored = copy.copy(tensor)
    stored.sparsity = encoded.parameters()
    added = _packed(stored) - _packed(tensor)
    if _wants_dense(model, index, encoded):
        reference = np.zeros(1, np.int32).nbytes  # each table has its place in a list
        added += _packed(_twin(tensor)) + _packed(_densify(0, index, index)) + 2 * reference
    return len(model.buffers[tensor.buffer].data) - encoded.values.nbytes - added


def _packed(table: Any) -> int:
    """Bytes of a table with all that hangs on it."""
    builder = flatbuffers.Builder()
    builder.Finish(table.Pack(builder))
    return len(builder.Output())


def _wants_dense(model: fb.Model, index: int, encoded: sparse.Encoded) -> list[int]:
    """Places of the operators that read the tensor and cannot do with the encoding."""
    return [
        n
        for n, op in enumerate(model.subgraphs[0].operators)
        if index in {int(t) for t in op.inputs}
        and not (encoded.block > 1 and _takes_blocks(model, op, index))
    ]


def _store(model: fb.Model, index: int, encoded: sparse.Encoded) -> None:
    """Put the encoding in place of the dense tensor; operators that want it dense read it through DENSIFY."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[index]
    dense = _wants_dense(model, index, encoded)
    tensor.sparsity = encoded.parameters()
    model.buffers[tensor.buffer].data = np.frombuffer(encoded.values.tobytes(), np.uint8)
    for n, op in enumerate(graph.operators):
        if n not in dense and index in {int(t) for t in op.inputs}:
            op.opcodeIndex = _code(model, schema.BuiltinOperator.FULLY_CONNECTED, SPARSE_FULLY_CONNECTED)
    if not dense:
        return
    graph.tensors.append(_dense_twin(model, tensor))
    twin = len(graph.tensors) - 1
    for n in dense:
        op = graph.operators[n]
        op.inputs = np.array([twin if int(t) == index else int(t) for t in op.inputs], np.int32)
    code = _code(model, schema.BuiltinOperator.DENSIFY, 1)
    graph.operators.insert(dense[0], _densify(code, index, twin))


def _densify(code: int, source: int, target: int) -> fb.Operator:
    found = schema.OperatorT()
    found.opcodeIndex = code
    found.inputs, found.outputs = np.array([source], np.int32), np.array([target], np.int32)
    return found


def _takes_blocks(model: fb.Model, op: fb.Operator, index: int) -> bool:
    """Whether the operator's own kernel reads these blocks: fully connected, as float32 weights."""
    tensor = model.subgraphs[0].tensors[index]
    at = [n for n, t in enumerate(op.inputs) if int(t) == index]
    return (
        fb.operator_name(model, op) == "FULLY_CONNECTED" and at == [1] and fb.type_name(tensor) == "FLOAT32"
    )


def _dense_twin(model: fb.Model, tensor: fb.Tensor) -> fb.Tensor:
    """What a DENSIFY makes of the tensor."""
    twin = _twin(tensor)
    empty = model.buffers[0].data
    if empty is None or len(empty) == 0:
        twin.buffer = 0
    else:
        model.buffers.append(schema.BufferT())
        twin.buffer = len(model.buffers) - 1
    return twin


def _twin(tensor: fb.Tensor) -> fb.Tensor:
    """The tensor without its values, under another name."""
    twin = schema.TensorT()
    twin.shape, twin.type, twin.hasRank = tensor.shape, tensor.type, tensor.hasRank
    twin.name = (fb.tensor_name(tensor) + "/dense").encode()
    return twin


def _code(model: fb.Model, builtin: int, version: int) -> int:
    """Index of an operator code of at least this version; a new one where there is none."""
    for n, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin and code.version >= version:
            return n
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _same_weights(before: fb.Model, after: fb.Model) -> None:
    """The weights themselves, as random inputs may leave some without a say."""
    for one, two in zip(weighted_operators(before), weighted_operators(after), strict=True):
        for dense, encoded in zip(one.tensors, two.tensors, strict=True):
            old, new = fb.constant(before, dense), fb.constant(after, encoded)
            if old is None or new is None or not np.array_equal(old, new, equal_nan=True):
                raise StageError(
                    Reason.STEP_FAILED,
                    f"sparse encoding changed weights: those of {one.operator} number {one.index} are not "
                    "what they were",
                )
