"""Small int8 .tflite files with kernels as compression leaves them: sparse, clustered, dense."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from paretune_compress import flatbuffer as fb
from support.ptz_prior import network


def int8_network(seed: int = 0, kind: str = "sparse", names: bool = True) -> bytes:
    """The network of the codec's prior with made-up weights, of a `kind` that `kernel` knows."""
    model = fb.load(network(names))
    rng = np.random.default_rng(seed)
    for tensor in model.subgraphs[0].tensors:
        buffer = model.buffers[tensor.buffer]
        if buffer.data is None or len(buffer.data) == 0:
            continue
        if tensor.type == schema.TensorType.INT8:
            buffer.data = kernel(rng, kind, tuple(int(d) for d in tensor.shape)).view(np.uint8).ravel()
        elif tensor.name != b"model/flatten/Const":
            values = rng.normal(0, 300, len(buffer.data) // 4).astype(np.int32)
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        if tensor.quantization is not None and tensor.quantization.scale is not None:
            scales = rng.uniform(0.001, 0.01, len(tensor.quantization.scale)).astype(np.float32)
            tensor.quantization.scale = scales
    return fb.pack(model)


def kernel(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Any:
    """Int8 weights: sparse, clustered, dense, dead or zero."""
    values = np.clip(np.round(rng.laplace(0, 20, shape)), -127, 127).astype(np.int8)
    if kind == "zero":
        values[:] = 0
    elif kind == "clustered":
        levels = np.array([-90, -35, -12, 0, 9, 31, 77], np.int8)
        values = levels[rng.choice(7, shape, p=[0.05, 0.1, 0.2, 0.3, 0.2, 0.1, 0.05])]
    elif kind in {"sparse", "dead"}:
        values = (np.sign(values) * (1 + np.abs(values) // 24)).astype(np.int8)
        values[rng.random(shape) < 0.85] = 0
    if kind == "dead":
        values[rng.random(shape[0]) < 0.3] = 0
        values[..., rng.random(shape[-1]) < 0.3] = 0
    return values


def clustered_floats(seed: int = 0) -> bytes:
    """The same network in float32 with few distinct values, as clustering without quantization leaves it."""
    model = fb.load(network(False))
    rng = np.random.default_rng(seed)
    levels = np.sort(rng.normal(0, 0.1, 11)).astype(np.float32)
    for tensor in model.subgraphs[0].tensors:
        tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
        buffer = model.buffers[tensor.buffer]
        if tensor.shape is not None and buffer.data is not None and len(buffer.data) > 0:
            values = levels[rng.choice(11, tuple(int(d) for d in tensor.shape))]
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    return fb.pack(model)
