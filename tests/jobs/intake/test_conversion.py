"""Keras files and SavedModels become float .tflite files that compute the same."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from paretune_compress.intake import convert as conversion
from paretune_compress.intake import intake
from paretune_contract.dataset import DataRequest, Split
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import ModelInfo, SourceFormat
from paretune_contract.stages import IntakeRequest, IntakeResult

pytestmark = pytest.mark.tensorflow
RNG = np.random.default_rng(0)


def images(tmp_path: Path) -> dict[Split, DataRequest]:
    np.savez(tmp_path / "data.npz", x=RNG.random((8, 8, 8, 1), np.float32), y=np.arange(8) % 3)
    return {split: DataRequest(uri=str(tmp_path / "data.npz")) for split in (Split.TRAIN, Split.EVALUATION)}


def taken_in(tmp_path: Path, model: Path, data: dict[Split, DataRequest] | None = None) -> IntakeResult:
    return intake(
        IntakeRequest(
            model_uri=str(model),
            dataset=images(tmp_path) if data is None else data,
            metrics=("accuracy",) if data is None else (),
            cache=str(tmp_path / "cache"),
        )
    )


def refused(tmp_path: Path, model: Path) -> StageError:
    with pytest.raises(StageError) as caught:
        taken_in(tmp_path, model, {})
    assert str(model) in caught.value.message
    return caught.value


def found(result: IntakeResult) -> ModelInfo:
    assert result.model is not None
    return result.model


def outputs(model: ModelInfo, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    return Interpreter(model.path).get_signature_runner("serving_default")(**inputs)


def network(keras: Any, name: str = "image") -> Any:
    layers = keras.layers
    x = entry = keras.Input((8, 8, 1), name=name)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    model = keras.Model(entry, layers.Dense(3, activation="softmax", name="scores")(x))
    weights = [RNG.normal(0.5, 0.2, w.shape).astype(np.float32) for w in model.get_weights()]
    model.set_weights([np.abs(w) for w in weights])
    model.compile(keras.optimizers.Adam(0.005), loss="sparse_categorical_crossentropy")
    return model


@pytest.mark.parametrize(
    ("library", "suffix", "kind"),
    [
        ("keras", ".keras", SourceFormat.KERAS),
        ("keras", ".h5", SourceFormat.H5),
        ("tf_keras", ".keras", SourceFormat.KERAS),
        ("tf_keras", ".h5", SourceFormat.H5),
    ],
)
def test_a_keras_file_becomes_a_float_tflite(
    tmp_path: Path, library: str, suffix: str, kind: SourceFormat
) -> None:
    model = network(pytest.importorskip(library))
    file = tmp_path / f"net{suffix}"
    model.save(file)
    file = file.rename(tmp_path / "a file without suffix")
    result = taken_in(tmp_path, file)
    info = found(result)
    assert info.format is kind
    assert [(t.name, t.shape, t.dtype) for t in info.inputs] == [("image", (1, 8, 8, 1), "float32")]
    assert info.outputs[0].shape == (1, 3)
    assert [layer.operator for layer in info.layers] == ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    assert info.untrainable == ()
    x = RNG.random((1, 8, 8, 1), np.float32)
    np.testing.assert_allclose(
        outputs(info, image=x)[info.outputs[0].name], np.asarray(model(x, training=False)), atol=1e-5
    )
    assert info.compile_config["learningRate"] == pytest.approx(0.005)
    assert str(info.compile_config["optimizer"]).lower() == "adam"
    assert info.compile_config["loss"] == "sparse_categorical_crossentropy"
    assert result.training is not None
    assert result.training.origin["loss"] == "model"


@pytest.mark.parametrize("writer", ["keras.export", "tf.saved_model"])
def test_a_saved_model_becomes_a_float_tflite(tmp_path: Path, writer: str) -> None:
    import keras
    import tensorflow as tf

    folder = tmp_path / "saved"
    weights = RNG.normal(size=(64, 3)).astype(np.float32)
    if writer == "keras.export":
        model = network(keras)
        model.export(folder, verbose=False)
        expected = lambda x: np.asarray(model(x, training=False))  # noqa: E731
    else:

        class Net(tf.Module):
            def __init__(self) -> None:
                super().__init__()
                self.w = tf.Variable(weights)

            @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")])
            def score(self, image: Any) -> Any:
                return {"scores": tf.reshape(image, [-1, 64]) @ self.w}

        net = Net()
        tf.saved_model.save(net, str(folder), signatures={"serving_default": net.score})
        expected = lambda x: x.reshape(-1, 64) @ weights  # noqa: E731
    info = found(taken_in(tmp_path, folder))
    assert info.format is SourceFormat.SAVED_MODEL
    assert [(t.name, t.shape) for t in info.inputs] == [("image", (1, 8, 8, 1))]
    x = RNG.random((1, 8, 8, 1), np.float32)
    np.testing.assert_allclose(
        outputs(info, image=x)[info.outputs[0].name], expected(x), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("nested", [list, dict])
def test_several_inputs_and_outputs_keep_their_names(tmp_path: Path, nested: type) -> None:
    import keras

    zeta, alpha = keras.Input((4,), name="zeta"), keras.Input((4,), name="alpha")
    difference = keras.layers.Subtract(name="difference")([zeta, alpha])
    doubled = keras.layers.Dense(2, name="doubled")(keras.layers.Multiply()([zeta, alpha]))
    inputs: Any = [zeta, alpha] if nested is list else {"zeta": zeta, "alpha": alpha}
    model = keras.Model(inputs, [difference, doubled])
    model.save(tmp_path / "two.keras")
    a, b = (RNG.random((1, 4), np.float32) for _ in range(2))
    np.savez(tmp_path / "two.npz", zeta=np.repeat(a, 3, 0), alpha=np.repeat(b, 3, 0))
    result = taken_in(
        tmp_path, tmp_path / "two.keras", {Split.EVALUATION: DataRequest(uri=str(tmp_path / "two.npz"))}
    )
    info = found(result)
    assert sorted(t.name for t in info.inputs) == ["alpha", "zeta"]
    assert sorted(result.data[Split.EVALUATION].inputs) == ["alpha", "zeta"]
    answer = outputs(info, zeta=a, alpha=b)
    np.testing.assert_allclose(answer["difference"], a - b, atol=1e-6)
    assert answer["doubled"].shape == (1, 2)


def test_a_lambda_in_a_legacy_file_is_refused_and_never_runs(tmp_path: Path) -> None:
    import tf_keras

    touched = tmp_path / "touched"
    # A Lambda's bytecode runs while a legacy file loads: it is called to find the shape of its output.
    source = f"lambda x: (__import__('pathlib').Path({str(touched)!r}).touch(), x)[1]"
    layers = [tf_keras.layers.Dense(2, input_shape=(4,)), tf_keras.layers.Lambda(eval(source), name="evil")]  # noqa: S307
    model = tf_keras.Sequential(layers)
    model.save(tmp_path / "lambda.h5")
    touched.unlink()
    error = refused(tmp_path, tmp_path / "lambda.h5")
    assert error.reason is Reason.MODEL_UNSAFE
    assert "layer 'evil' is a Lambda" in error.message
    assert not touched.exists()


def saved_module(folder: Path, body: Any, **extra: Any) -> Path:
    import tensorflow as tf

    module = tf.Module()
    for name, value in extra.items():
        setattr(module, name, value)
    module.w = tf.Variable(np.ones((4, 2), np.float32))
    function = tf.function(
        lambda x: {"y": body(x) @ module.w},
        input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")],
        autograph=False,
    )
    module.score = function
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function.get_concrete_function()})
    return folder


def unsafe_bodies(target: str) -> dict[str, Any]:
    import tensorflow as tf

    def after(effect: Any, x: Any) -> Any:
        with tf.control_dependencies([effect]):
            return tf.identity(x)

    return {
        "ReadFile": lambda x: after(tf.io.read_file(target), x),
        "WriteFile": lambda x: after(tf.io.write_file(target, "x"), x),
        "EagerPyFunc": lambda x: tf.ensure_shape(tf.py_function(lambda v: v, [x], tf.float32), (None, 4)),
        "SaveV2": lambda x: after(
            tf.raw_ops.SaveV2(prefix=target, tensor_names=["a"], shape_and_slices=[""], tensors=[x]), x
        ),
        "PrintV2": lambda x: after(tf.raw_ops.PrintV2(input="x", output_stream=f"file://{target}"), x),
    }


@pytest.mark.parametrize("operation", ["ReadFile", "WriteFile", "EagerPyFunc", "SaveV2", "PrintV2"])
def test_a_saved_model_that_touches_files_or_python_is_refused(tmp_path: Path, operation: str) -> None:
    target = tmp_path / "touched"
    body = unsafe_bodies(str(target))[operation]
    error = refused(tmp_path, saved_module(tmp_path / "saved", body))
    assert error.reason is Reason.MODEL_UNSAFE
    assert f"is a {operation}," in error.message
    assert not list(tmp_path.glob("touched*"))


def test_a_function_that_hides_behind_the_name_of_a_saver_is_refused(tmp_path: Path) -> None:
    """The first look lets the functions pass that save the variables; the second sees what would run."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    folder = saved_module(tmp_path / "saved", unsafe_bodies(str(tmp_path / "touched"))["SaveV2"])
    model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0]
    functions = graph.graph_def.library.function
    writers = [f for f in functions if any(node.op == "SaveV2" for node in f.node_def)]
    disguise = {
        f.signature.name: f"__inference__traced_save_{90000 + i}"
        for i, f in enumerate(writers)
        if "traced_save" not in f.signature.name
    }
    assert disguise
    for function in functions:
        function.signature.name = disguise.get(function.signature.name, function.signature.name)
    for node in [*graph.graph_def.node, *(node for f in functions for node in f.node_def)]:
        for value in node.attr.values():
            if value.HasField("func"):
                value.func.name = disguise.get(value.func.name, value.func.name)
    concrete = graph.object_graph_def.concrete_functions
    for true, false in disguise.items():
        if true in concrete:
            concrete[false].CopyFrom(concrete[true])
            del concrete[true]
    for saved in graph.object_graph_def.nodes:
        names = [disguise.get(name, name) for name in saved.function.concrete_functions]
        if names:
            saved.function.concrete_functions[:] = names
        bare = saved.bare_concrete_function
        if bare.concrete_function_name in disguise:
            bare.concrete_function_name = disguise[bare.concrete_function_name]
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    error = refused(tmp_path, folder)
    assert error.reason is Reason.MODEL_UNSAFE
    assert "is a SaveV2," in error.message
    assert not list(tmp_path.glob("touched*"))


def test_a_saved_model_with_a_table_is_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant([0]), tf.constant([1])), -1
    )
    folder = saved_module(tmp_path / "saved", lambda x: x, table=table)
    error = refused(tmp_path, folder)
    assert error.reason is Reason.MODEL_UNSAFE
    assert "runs code on loading" in error.message


def test_a_damaged_saved_model_is_refused(tmp_path: Path) -> None:
    folder = saved_module(tmp_path / "saved", lambda x: x)
    whole = (folder / "saved_model.pb").read_bytes()
    (folder / "saved_model.pb").write_bytes(whole[: len(whole) // 2])
    assert refused(tmp_path, folder).reason is Reason.MODEL_UNREADABLE
    (folder / "saved_model.pb").write_bytes(b"")
    assert "holds no graph" in refused(tmp_path, folder).message
    (folder / "saved_model.pb").write_bytes(whole)
    for shard in (folder / "variables").iterdir():
        shard.write_bytes(shard.read_bytes()[:10])
    assert "cannot be loaded" in refused(tmp_path, folder).message


def test_an_open_axis_is_refused(tmp_path: Path) -> None:
    import keras

    entry = keras.Input((None, 8, 1), name="image")
    keras.Model(entry, keras.layers.Conv2D(2, 3)(entry)).save(tmp_path / "open.keras")
    error = refused(tmp_path, tmp_path / "open.keras")
    assert error.reason is Reason.MODEL_UNSUPPORTED
    assert "input 'image' has shape [None, None, 8, 1]" in error.message


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    import keras

    network(keras).save(tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    for layer in config["config"]["layers"]:
        if layer["config"]["name"] == "stem":
            layer["config"]["filters"] = 7
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    error = refused(tmp_path, tmp_path / "net.keras")
    assert error.reason is Reason.MODEL_UNREADABLE
    assert "cannot be loaded" in error.message


def test_a_conversion_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    network(keras).save(tmp_path / "net.keras")
    loaded = conversion._load_keras

    def other(*arguments: Any) -> conversion.Loaded:
        model = loaded(*arguments)
        calls = []

        def call(tensors: Sequence[Any]) -> list[Any]:
            calls.append(1)
            return [t if len(calls) == 1 else t * 1.5 for t in model.call(tensors)]

        return conversion.Loaded(model.inputs, model.outputs, call, model.owner)

    monkeypatch.setattr(conversion, "_load_keras", other)
    error = refused(tmp_path, tmp_path / "net.keras")
    assert error.reason is Reason.MODEL_UNSUPPORTED
    assert "computes something else than the source" in error.message
