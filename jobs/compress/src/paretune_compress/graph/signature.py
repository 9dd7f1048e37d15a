"""Inputs by name, in the order in which the file lists them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError

from .. import flatbuffer as fb

Floats = NDArray[np.float32]


def input_names(model: fb.Model) -> tuple[tuple[str, ...], ...]:
    """For each input its names: in the signatures, and the tensor's own."""
    graph = model.subgraphs[0]
    names: list[tuple[str, ...]] = []
    for index in (int(t) for t in graph.inputs):
        found = [
            m.name.decode(errors="replace") if isinstance(m.name, bytes) else str(m.name)
            for s in model.signatureDefs or []
            if not s.subgraphIndex
            for m in s.inputs or []
            if m.tensorIndex == index
        ]
        names.append(tuple(dict.fromkeys([*found, fb.tensor_name(graph.tensors[index])])))
    return tuple(names)


def ordered_inputs(model: fb.Model, arrays: Mapping[str, Floats]) -> list[Floats]:
    """The arrays in the order of the model's inputs; a single one needs no matching name.

    Raises:
        StageError: DATA_MISMATCH when an input has no array.
    """
    names = input_names(model)
    if len(names) == 1 and len(arrays) == 1:
        return list(arrays.values())
    ordered = []
    for known in names:
        hit = next((name for name in known if name in arrays), None)
        if hit is None:
            raise StageError(
                Reason.DATA_MISMATCH,
                f"the model's input {known[0]!r} has no array; the data set has {sorted(arrays)}",
            )
        ordered.append(arrays[hit])
    return ordered
