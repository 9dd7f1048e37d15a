"""Source models to float .tflite with TensorFlow's converter.

Everything that comes here has been checked as data before.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import SourceFormat

from .keras_files import KerasConfig
from .saved_model import check_graph

Floats = NDArray[np.float32]
TOLERANCE = 1e-3
"""Largest difference between source and converted model, as a share of the largest output (at least 1)."""


@dataclass(frozen=True)
class Loaded:
    """A source model in TensorFlow.

    Attributes:
        inputs: names and shapes, the batch left out (None where an axis is open); float32.
        outputs: names.
        call: TensorFlow tensors in the order of inputs -> those of the outputs.
        owner: kept alive as long as its variables are needed.
    """

    inputs: tuple[tuple[str, tuple[int | None, ...]], ...]
    outputs: tuple[str, ...]
    call: Callable[[Sequence[Any]], list[Any]]
    owner: Any


@dataclass(frozen=True)
class Converted:
    """A float .tflite whose signature has the keys in0, in1, ... and out0, out1, ... for these names."""

    data: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def convert(path: Path, uri: str, kind: SourceFormat, config: KerasConfig | None) -> Converted:
    """The float .tflite of a source model with batch 1, compared with the source on random inputs.

    Args:
        path: a `.keras` or `.h5` file, or a SavedModel's folder.
        uri: for errors.
        kind: its format.
        config: of Keras files.

    Raises:
        StageError: MODEL_UNREADABLE when Keras or TensorFlow refuses the file; MODEL_UNSUPPORTED when it
            cannot be converted or the converted model computes something else.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        if kind is SourceFormat.SAVED_MODEL or config is None:
            loaded = _load_saved_model(path, uri)
        else:
            loaded = _load_keras(path, kind, config)
    except StageError:
        raise
    except Exception as error:  # whatever a foreign file provokes
        raise StageError(
            Reason.MODEL_UNREADABLE, f"{uri}: cannot be loaded ({type(error).__name__}: {_brief(error)})"
        ) from error
    _check_inputs(loaded, uri)
    data = _to_tflite(loaded, uri)
    _must_agree(data, loaded, uri)
    return Converted(data, tuple(name for name, _ in loaded.inputs), loaded.outputs)


# --- loading ------------------------------------------------------------------------------------------------


def _load_keras(path: Path, kind: SourceFormat, config: KerasConfig) -> Loaded:
    import tensorflow as tf

    with _with_suffix(path, ".keras" if kind is SourceFormat.KERAS else ".h5") as file:
        if config.keras3:
            import keras

            model = keras.models.load_model(file, compile=False, safe_mode=True)
        else:
            import tf_keras

            model = tf_keras.models.load_model(file, compile=False, safe_mode=True)
    inputs = list(model.inputs or [])
    names = _unique([str(getattr(t, "name", "") or f"input_{i}").split(":")[0] for i, t in enumerate(inputs)])
    outputs = _unique(_output_names(model))

    def call(tensors: Sequence[Any]) -> list[Any]:
        structure = getattr(model, "input", None)
        packed: Any = tensors[0] if len(tensors) == 1 else list(tensors)
        if isinstance(structure, dict):
            packed = tf.nest.pack_sequence_as(structure, list(tensors))
        return list(tf.nest.flatten(model(packed, training=False)))

    shapes = [tuple(None if d is None else int(d) for d in t.shape)[1:] for t in inputs]
    for name, tensor in zip(names, inputs, strict=True):
        dtype = tf.as_dtype(tensor.dtype).name
        if dtype != "float32":
            raise StageError(
                Reason.MODEL_UNSUPPORTED, f"{path.name}: input {name!r} is {dtype}; expected float32"
            )
    return Loaded(tuple(zip(names, shapes, strict=True)), tuple(outputs), call, model)


def _output_names(model: Any) -> list[str]:
    named = getattr(model, "output_names", None)
    if named:
        return [str(name) for name in named]
    histories = [getattr(tensor, "_keras_history", None) for tensor in model.outputs or []]
    return [
        str(getattr(history[0], "name", "") or f"output_{i}") if history else f"output_{i}"
        for i, history in enumerate(histories)
    ]


@contextlib.contextmanager
def _with_suffix(path: Path, suffix: str) -> Iterator[str]:
    """Keras tells formats by the file's name; a link gives it the right one."""
    if path.suffix == suffix:
        yield str(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"model{suffix}"
        link.symlink_to(path.absolute())
        yield str(link)


def _load_saved_model(path: Path, uri: str) -> Loaded:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signatures = {key: loaded.signatures[key] for key in loaded.signatures}
    chosen = signatures.get("serving_default")
    if chosen is None and len(signatures) == 1:
        chosen = next(iter(signatures.values()))
    if chosen is None:
        raise StageError(
            Reason.MODEL_UNSUPPORTED,
            f"{uri}: the SavedModel has the signatures {sorted(signatures)}; expected 'serving_default'",
        )
    check_graph(chosen.graph.as_graph_def(), uri)
    specs = sorted(chosen.structured_input_signature[1].items())
    for name, spec in specs:
        if spec.dtype != tf.float32 or spec.shape.rank is None:
            raise StageError(
                Reason.MODEL_UNSUPPORTED,
                f"{uri}: input {name!r} is {spec.dtype.name} of shape {spec.shape}; "
                "expected float32 of known rank",
            )
    outputs = sorted(chosen.structured_outputs)

    def call(tensors: Sequence[Any]) -> list[Any]:
        given = {name: tf.convert_to_tensor(t) for (name, _), t in zip(specs, tensors, strict=True)}
        results = chosen(**given)
        return [results[name] for name in outputs]

    return Loaded(
        tuple((name, tuple(spec.shape.as_list()[1:])) for name, spec in specs), tuple(outputs), call, loaded
    )


def _check_inputs(loaded: Loaded, uri: str) -> None:
    if not loaded.inputs or not loaded.outputs:
        raise StageError(
            Reason.MODEL_UNSUPPORTED,
            f"{uri}: the model does not say what it takes; "
            "build it with an Input of fixed shape and save it again",
        )
    for name, shape in loaded.inputs:
        if any(size is None for size in shape):
            raise StageError(
                Reason.MODEL_UNSUPPORTED,
                f"{uri}: input {name!r} has shape {[None, *shape]}; "
                "every axis but the first needs a fixed size",
            )


def _unique(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        found.append(name if name not in found else f"{name}_{len(found)}")
    return found


# --- converting ---------------------------------------------------------------------------------------------


def _to_tflite(loaded: Loaded, uri: str) -> bytes:
    import tensorflow as tf

    specs = [
        tf.TensorSpec((1, *shape), tf.float32, name=f"in{i}") for i, (_, shape) in enumerate(loaded.inputs)
    ]

    def serve(*tensors: Any) -> Mapping[str, Any]:
        return {f"out{i}": tensor for i, tensor in enumerate(loaded.call(tensors))}

    try:
        function = tf.function(serve, input_signature=specs, autograph=False).get_concrete_function()
        module = tf.Module()  # variables that no module owns would be converted without their values
        module.owned = list(function.graph.variables)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], module)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return bytes(converter.convert())
    except Exception as error:  # whatever the converter finds
        raise StageError(
            Reason.MODEL_UNSUPPORTED,
            f"{uri}: cannot be converted to LiteRT's built-in operators ({_brief(error)})",
        ) from error


def _must_agree(data: bytes, loaded: Loaded, uri: str) -> None:
    """Compare the converted model with its source on random inputs of two sizes."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    runner = interpreter.get_signature_runner()
    rng = np.random.default_rng(0)
    for spread in (1.0, 8.0):
        arrays: list[Floats] = [
            rng.normal(0.0, spread, (1, *(int(size or 1) for size in shape))).astype(np.float32)
            for _, shape in loaded.inputs
        ]
        found = runner(**{f"in{i}": array for i, array in enumerate(arrays)})
        for i, tensor in enumerate(loaded.call(arrays)):
            name, want, got = loaded.outputs[i], np.asarray(tensor), found[f"out{i}"]
            difference = disagreement(want, got)
            if difference > TOLERANCE:
                raise StageError(
                    Reason.MODEL_UNSUPPORTED,
                    f"{uri}: the converted model computes something else than the source on random inputs: "
                    f"output {name!r} of shape {list(got.shape)} (source: {list(want.shape)}) differs by "
                    f"{difference:.2g} of its largest value; at most {TOLERANCE:g} is rounding",
                )


def disagreement(want: NDArray[Any], got: NDArray[Any]) -> float:
    """Largest difference as a share of the largest wanted value (at least 1); infinite for unlike shapes.

    Values that are not finite must stand in the same places.
    """
    if want.shape != got.shape:
        return float("inf")
    finite = np.isfinite(want)
    if not np.array_equal(finite, np.isfinite(got)):
        return float("inf")
    scale = max(1.0, float(np.max(np.abs(want[finite]), initial=0.0)))
    return float(np.max(np.abs(want[finite] - got[finite]), initial=0.0)) / scale


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
