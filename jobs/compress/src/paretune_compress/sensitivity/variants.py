"""The float model with the weights of one layer changed, written over in place."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from paretune_contract.model import LayerInfo

from .. import flatbuffer as fb


class Variants:
    """One file whose weights can be written over, layer by layer.

    Packing a model anew takes longer than running a small one, and there are hundreds of changes to try.

    Args:
        source: the float .tflite.
        layers: those whose weights will change; others are left out of `weights`.
        path: where the file is written.
    """

    def __init__(self, source: Path, layers: Sequence[LayerInfo], path: Path) -> None:
        model = fb.read(source)
        tensors = model.subgraphs[0].tensors
        self.path = path
        self.weights: dict[str, fb.Array] = {}
        for layer in layers:
            values = fb.constant(model, layer.weight_tensor)
            if values is not None and fb.type_name(tensors[layer.weight_tensor]) == "FLOAT32":
                self.weights[layer.name] = values.copy()
                # Equal constants may share a buffer; from here on each layer has its own.
                fb.set_constant(model, layer.weight_tensor, values.copy())
        buffers = {layer.name: tensors[layer.weight_tensor].buffer for layer in layers}
        fb.write(model, path)
        self._file = np.memmap(path, np.uint8, "r+")
        root = schema.Model.GetRootAsModel(self._file, 0)
        self._stored = {name: root.Buffers(buffers[name]).DataAsNumpy() for name in self.weights}

    def put(self, name: str, values: fb.Array) -> None:
        """Write over the weights of a layer; whoever opens the file from now on sees them."""
        self._stored[name][:] = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
        self._file.flush()

    def restore(self, name: str) -> None:
        """Put the layer's own weights back."""
        self.put(name, self.weights[name])
