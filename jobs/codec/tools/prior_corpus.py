"""Files as they are packed: the small networks, as the converter writes them and in every scheme.

TensorFlow, the quantizer and paretune_compress are needed here; the codec itself needs none of them.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_compress import flatbuffer as fb
from paretune_compress.graph.description import bias_tensor, describe, weighted_operators
from paretune_compress.layers import resolve_layers
from paretune_compress.runtime import open_interpreter, run_interpreter
from paretune_compress.steps.calibration import Ranges
from paretune_compress.steps.lean import lean
from paretune_compress.steps.quantization import needs_calibration, quantize
from paretune_contract.settings import Settings
from prior_networks import NETWORKS

SCHEMES: tuple[dict[str, str], ...] = (
    {"scheme": "int8", "granularity": "channel", "io": "float32"},
    {"scheme": "int8", "granularity": "tensor", "io": "int8"},
    {"scheme": "float16"},
    {"scheme": "dynamic", "granularity": "channel"},
    {"scheme": "int16x8", "granularity": "channel", "io": "float32"},
    {"scheme": "int4", "granularity": "tensor", "io": "int8"},
    {"scheme": "dynamic", "granularity": "tensor"},
    {"scheme": "int16x8", "granularity": "tensor", "io": "float32"},
)
TRAINED: tuple[dict[str, str], ...] = (
    {"scheme": "int8", "granularity": "tensor", "io": "int8"},
    {"scheme": "int8", "granularity": "tensor", "io": "float32"},
    {"scheme": "dynamic", "granularity": "tensor"},
    {"scheme": "int4", "granularity": "tensor", "io": "int8"},
)
"""Schemes of files that are trained for few bytes, the usual ones first."""
EACH = 3
"""Schemes that each network is quantized in; they go round."""
SAMPLES = 3


def files() -> Iterator[tuple[str, bytes]]:
    """Names and bytes. The first part of a name is the network's number, the second its kind:

    converter (as TensorFlow writes it), named (with names, packed anew), lean (without), trained (lean, with
    few distinct weights and scales that are powers of two).
    """
    with tempfile.TemporaryDirectory() as folder:
        for number in range(len(NETWORKS)):
            path = Path(folder) / f"{number}.tflite"
            path.write_bytes(converted(number))
            yield from _of_network(number, path)


def converted(number: int) -> bytes:
    """A network as a float .tflite, of Keras 2 or Keras 3 in turn."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf
    import tf_keras

    kind: Any = (tf_keras, keras)[number % 2]
    kind.backend.clear_session()
    model = NETWORKS[number](kind)
    _settle(model, np.random.default_rng(number))
    if number % 3 == 2:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
    else:
        converter = _of_function(tf, model)
    return bytes(converter.convert())


def _of_function(tf: Any, model: Any) -> Any:
    """As the intake converts: batch 1, inputs in0, in1, ..., outputs out0, out1, ..."""
    specs = [tf.TensorSpec((1, *t.shape[1:]), tf.float32, name=f"in{i}") for i, t in enumerate(model.inputs)]

    def serve(*tensors: Any) -> Any:
        made = model(tensors[0] if len(tensors) == 1 else list(tensors), training=False)
        return {f"out{i}": t for i, t in enumerate(tf.nest.flatten(made))}

    function = tf.function(serve, input_signature=specs, autograph=False).get_concrete_function()
    module = tf.Module()
    module.owned = list(function.graph.variables)
    return tf.lite.TFLiteConverter.from_concrete_functions([function], module)


def _settle(model: Any, rng: np.random.Generator) -> None:
    """Weights as training might leave them: no bias and no variance is as it was initialized."""
    made = []
    for variable in model.weights:
        name, shape = str(getattr(variable, "path", variable.name)), tuple(variable.shape)
        if "gamma" in name or "variance" in name:
            made.append(rng.uniform(0.5, 1.5, shape))
        elif len(shape) == 1:
            made.append(rng.normal(0, 0.2, shape))
        else:
            reads = max(1, int(np.prod(shape[:-1])))
            if "depthwise" in name:
                reads = shape[0] * shape[1]
            made.append(_kernel(rng, shape) * (2 / reads) ** 0.5)
    model.set_weights([m.astype(np.float32) for m in made])


def _kernel(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Weights around 0 whose spread differs between outputs and between inputs."""
    values = rng.laplace(0, 0.7, shape) if rng.random() < 0.5 else rng.normal(0, 1, shape)
    spread = np.exp(rng.normal(0, 0.4, shape[-1]))
    if len(shape) > 1:
        spread = spread * np.exp(rng.normal(0, 0.4, (shape[-2], 1)))
    result: NDArray[np.float64] = values * spread
    return result


def _of_network(number: int, path: Path) -> Iterator[tuple[str, bytes]]:
    model = fb.read(path)
    yield f"{number:02}-converter-float", path.read_bytes()
    yield f"{number:02}-named-float", fb.pack(model)
    yield f"{number:02}-lean-float", _lean(fb.pack(model))
    rng = np.random.default_rng(1000 + number)
    ranges = _ranges(path, rng)
    for turn in range(EACH):
        chosen = SCHEMES[(number * EACH + turn) % len(SCHEMES)]
        data = _quantized(path, chosen, ranges, None)
        label = "-".join(chosen.values())
        yield f"{number:02}-named-{label}", data
        yield f"{number:02}-lean-{label}", _lean(data)
    if any(fb.operator_name(model, op) == "TRANSPOSE_CONV" for op in model.subgraphs[0].operators):
        return  # whose grids are not written into the quantized file
    given = path.read_bytes()
    for turn in range(2):
        chosen = TRAINED[(number + turn * (1 + number % 3)) % len(TRAINED)]
        model = fb.load(given)
        grids = _on_grids(model, rng, 7 if chosen["scheme"] == "int4" else 127)
        fb.write(model, path)
        data = _quantized(path, chosen, ranges, grids)
        yield f"{number:02}-trained-{'-'.join(chosen.values())}", _lean(data)


def _lean(data: bytes) -> bytes:
    model = fb.load(data)
    lean(model)
    return fb.pack(model)


def _quantized(path: Path, chosen: dict[str, str], ranges: Ranges, grids: Any) -> bytes:
    settings = Settings.model_validate({"quantization": chosen})
    plans = resolve_layers(settings, describe(path).layers)
    return quantize(path, settings, plans, ranges if needs_calibration(settings, plans) else None, grids)


def _ranges(path: Path, rng: np.random.Generator) -> Ranges:
    """Ranges of the activations over random inputs."""
    model = fb.read(path)
    graph = model.subgraphs[0]
    chosen = [
        i
        for i, tensor in enumerate(graph.tensors)
        if fb.type_name(tensor) == "FLOAT32" and not fb.is_constant(model, i)
    ]
    interpreter = open_interpreter(path, threads=1, keep_tensors=True)
    low, high = np.zeros(len(chosen), np.float32), np.zeros(len(chosen), np.float32)
    for _ in range(SAMPLES):
        run_interpreter(
            interpreter,
            [rng.uniform(0, 1, fb.shape(graph.tensors[i])).astype(np.float32) for i in graph.inputs],
        )
        for k, index in enumerate(chosen):
            try:
                value = interpreter.get_tensor(index)
            except ValueError:
                continue
            low[k], high[k] = min(low[k], value.min()), max(high[k], value.max())
    names = tuple(fb.tensor_name(graph.tensors[i]) for i in chosen)
    return Ranges(names, low, np.maximum(high, low + 1e-3))


def _on_grids(model: fb.Model, rng: np.random.Generator, most: int) -> dict[int, NDArray[np.float64]]:
    """Put the weights on grids in place, as training for few bytes leaves them; returns the steps."""
    grids: dict[int, NDArray[np.float64]] = {}
    for operator in weighted_operators(model):
        index = operator.tensors[0]
        values = fb.constant(model, index)
        assert values is not None
        if rng.random() < 0.5:
            values = _some_dead(rng, values, operator.operator == "DEPTHWISE_CONV_2D")
        spread = float(values.std()) or 1.0
        step = _short(max(spread * rng.uniform(0.3, 2.5), float(np.abs(values).max()) / most))
        fb.set_constant(model, index, (np.rint(values / step) * step).astype(np.float32))
        grids[index] = np.array([step])
        bias = bias_tensor(model, operator)
        given = fb.constant(model, bias) if bias is not None else None
        if bias is not None and given is not None and given.size and given.dtype == np.float32:
            step = 2.0 ** round(np.log2(float(np.abs(given).max(initial=0)) / 32 or 1.0))
            fb.set_constant(model, bias, (np.rint(given / step) * step).astype(np.float32))
            grids[bias] = np.array([step])
    return grids


def _some_dead(rng: np.random.Generator, values: Any, depthwise: bool) -> Any:
    """Without some outputs and some inputs."""
    values = values.copy()
    if depthwise:
        values[..., rng.random(values.shape[-1]) < rng.uniform(0, 0.4)] = 0
        return values
    values[rng.random(values.shape[0]) < rng.uniform(0, 0.5)] = 0
    values[..., rng.random(values.shape[-1]) < rng.uniform(0, 0.6)] = 0
    return values


def _short(step: float) -> float:
    """The step with eight bits of mantissa."""
    unit = 2.0 ** (np.floor(np.log2(step)) + 1 - 8)
    return float(round(step / unit) * unit)
