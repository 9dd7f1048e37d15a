"""Source models to float .tflite with TensorFlow's converter. Everything here has been checked as data before."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import SourceFormat

from .keras_files import KerasConfig

Forward = Callable[[Sequence[Any]], list[Any]]
TOLERANCE = 1e-3


def convert(path: Path, uri: str, kind: SourceFormat, config: KerasConfig | None) -> bytes:
    """The float .tflite of a source model; its outputs are compared with the source's on random inputs.

    Raises:
        StageError: MODEL_UNREADABLE when Keras or TensorFlow refuses the file; MODEL_UNSUPPORTED when it
            cannot be converted or the converted model computes something else.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    try:
        if kind is SourceFormat.SAVED_MODEL:
            functions, forward = _saved_model(path, uri)
        else:
            assert config is not None
            functions, forward = _keras(path, config)
    except StageError:
        raise
    except Exception as error:  # whatever a foreign file provokes
        raise StageError(
            Reason.MODEL_UNREADABLE, f"{uri}: cannot be loaded ({type(error).__name__}: {_brief(error)})"
        ) from error
    try:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([functions], None)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        data = bytes(converter.convert())
    except Exception as error:
        raise StageError(
            Reason.MODEL_UNSUPPORTED,
            f"{uri}: cannot be converted to LiteRT's built-in operators ({_brief(error)})",
        ) from error
    _must_agree(data, forward, uri)
    return data


def _keras(path: Path, config: KerasConfig) -> tuple[Any, Forward]:
    import tensorflow as tf

    if config.keras3:
        import keras

        model = keras.models.load_model(path, compile=False, safe_mode=True)
    else:
        import tf_keras

        model = tf_keras.models.load_model(path, compile=False, safe_mode=True)
    inputs = model.inputs
    signature = [
        tf.TensorSpec((1, *t.shape[1:]), tf.float32, name=str(t.name).split(":")[0]) for t in inputs
    ]
    if any(d is None for spec in signature for d in spec.shape):
        shapes = [list(spec.shape) for spec in signature]
        raise StageError(
            Reason.MODEL_UNSUPPORTED, f"{path.name}: the inputs {shapes} have open axes; give them fixed sizes"
        )

    @tf.function(input_signature=signature)
    def serving(*arguments: Any) -> Any:
        return model(list(arguments) if len(arguments) > 1 else arguments[0], training=False)

    return serving.get_concrete_function(), lambda x: _flat(model(list(x) if len(x) > 1 else x[0], training=False))


def _saved_model(path: Path, uri: str) -> tuple[Any, Forward]:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signatures = dict(loaded.signatures)
    if not signatures:
        raise StageError(Reason.MODEL_UNSUPPORTED, f"{uri}: the SavedModel has no signature; save it with one")
    chosen = signatures.get("serving_default") or next(iter(signatures.values()))
    _, keywords = chosen.structured_input_signature
    specs = []
    for name, spec in sorted(keywords.items()):
        shape = spec.shape.as_list() if spec.shape.rank is not None else None
        if shape is None or any(d is None for d in shape[1:]) or not shape:
            raise StageError(
                Reason.MODEL_UNSUPPORTED, f"{uri}: input {name!r} has shape {shape}; expected fixed sizes"
            )
        specs.append(tf.TensorSpec((1, *shape[1:]), spec.dtype, name=name))

    @tf.function(input_signature=specs)
    def serving(*arguments: Any) -> Any:
        return chosen(**{s.name: a for s, a in zip(specs, arguments, strict=True)})

    serving._loaded = loaded  # the variables live as long as their owner

    def forward(x: Sequence[Any]) -> list[Any]:
        return _flat(chosen(**{s.name: tf.constant(a) for s, a in zip(specs, x, strict=True)}))

    return serving.get_concrete_function(), forward


def _flat(outputs: Any) -> list[Any]:
    import tensorflow as tf

    return [np.asarray(t) for t in tf.nest.flatten(outputs)]


def _must_agree(data: bytes, forward: Forward, uri: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    details = interpreter.get_input_details()
    inputs = [rng.random(d["shape"], np.float32) for d in details]
    for detail, value in zip(details, inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    found = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    expected = forward(inputs)
    # The converter may order several outputs by name: each must have its like.
    for want in expected:
        close = [
            got for got in found
            if got.size == want.size
            and np.max(np.abs(got.reshape(-1) - want.reshape(-1)), initial=0.0)
            <= TOLERANCE * max(1.0, float(np.max(np.abs(want), initial=0.0)))
        ]  # fmt: skip
        if not close:
            raise StageError(
                Reason.MODEL_UNSUPPORTED,
                f"{uri}: the converted model computes something else than the source on random inputs "
                f"(outputs of {[list(g.shape) for g in found]}, expected {list(want.shape)})",
            )


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
