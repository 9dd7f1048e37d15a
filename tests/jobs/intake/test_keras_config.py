"""Keras files read as data: what is on the list passes, code and reaching outside do not."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from paretune_compress.intake.allowed import check_config
from paretune_compress.intake.keras_files import compile_settings, read_archive, read_h5
from paretune_compress.intake.sniff import source_format
from paretune_contract.failure import Reason, StageError
from paretune_contract.model import SourceFormat

LIMIT = 1 << 20
DENSE = {
    "class_name": "Dense",
    "module": "keras.layers",
    "config": {"name": "dense"},
    "registered_name": None,
}


def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "net", "layers": list(layers)}}


def archive(path: Path, config: Any, more: dict[str, bytes] | None = None) -> Path:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((2, 2), np.float32)
    members = {
        "config.json": json.dumps(config).encode(),
        "metadata.json": b'{"keras_version": "3.15.1"}',
        "model.weights.h5": weights.getvalue(),
        **(more or {}),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def h5(path: Path, config: Any, version: str = "2.21.0") -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = version
        file["model_weights/dense/kernel"] = np.zeros((2, 2), np.float32)
    return path


def refused(read: Any, path: Path) -> StageError:
    with pytest.raises(StageError) as caught:
        read(path, "s3://b/model", LIMIT)
    assert caught.value.message.startswith("s3://b/model")
    return caught.value


def test_keras_layers_pass(tmp_path: Path) -> None:
    config = sequential(DENSE)
    assert read_archive(archive(tmp_path / "m.keras", config), "u", LIMIT).keras3
    assert not read_h5(h5(tmp_path / "m.h5", config), "u", LIMIT).keras3
    assert read_h5(h5(tmp_path / "n.h5", config, "3.15.1"), "u", LIMIT).keras3


def test_an_archive_of_keras_2_is_for_tf_keras(tmp_path: Path) -> None:
    old = {"metadata.json": b'{"keras_version": "2.15.0"}'}
    assert not read_archive(archive(tmp_path / "m.keras", sequential(DENSE), old), "u", LIMIT).keras3


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (
            {"class_name": "Lambda", "config": {"name": "evil", "function": ["4wEAAA", None, None]}},
            "a Lambda",
        ),
        ({"class_name": "Dense", "config": {"name": "evil", "f": {"class_name": "__lambda__"}}}, "a Lambda"),
        (
            {
                "class_name": "Dense",
                "config": {"name": "evil", "a": {"class_name": "function", "config": "os"}},
            },
            "holds the function 'os'",
        ),
        ({**DENSE, "config": {"name": "evil"}, "registered_name": "pkg>Dense"}, "custom class 'pkg>Dense'"),
        ({**DENSE, "config": {"name": "evil"}, "module": "os"}, "module 'os'"),
        ({**DENSE, "config": {"name": "evil"}, "module": "keras_evil.layers"}, "module 'keras_evil.layers'"),
        ({**DENSE, "config": {"name": "evil"}, "module": ["keras"]}, "which is not Keras's"),
        ({"class_name": "TextVectorization", "config": {"name": "evil"}}, "class 'TextVectorization'"),
        ({"class_name": "MyLayer", "config": {"name": "evil"}}, "class 'MyLayer'"),
        (
            {"class_name": "TFOpLambda", "config": {"name": "evil", "function": "io.write_file"}},
            "calls the TensorFlow function 'io.write_file'",
        ),
        (
            {"class_name": "Map", "module": "keras.src.ops.core", "config": {"name": "evil"}},
            "the operation keras.src.ops.core.Map",
        ),
        ({"class_name": 7, "config": {"name": "evil"}}, "the class name 7"),
    ],
)
def test_code_and_foreign_classes_are_refused_by_name(
    tmp_path: Path, layer: dict[str, Any], said: str
) -> None:
    wrapped = {"class_name": "TimeDistributed", "config": {"name": "outer", "layer": layer}}
    for config in (sequential(DENSE, layer), sequential(wrapped)):
        for read, path in (
            (read_archive, archive(tmp_path / "m.keras", config)),
            (read_h5, h5(tmp_path / "m.h5", config)),
        ):
            error = refused(read, path)
            assert error.reason is Reason.MODEL_UNSAFE
            assert "layer 'evil'" in error.message
            assert said in error.message


def test_arithmetic_between_layers_passes() -> None:
    operation = {"class_name": "Add", "module": "keras.src.ops.numpy", "config": {"name": "add"}}
    legacy = {"class_name": "TFOpLambda", "config": {"name": "tf.math.add", "function": "math.add"}}
    check_config(sequential(operation, legacy), "u")


def test_the_settings_of_training_may_name_anything_since_they_are_never_built(tmp_path: Path) -> None:
    config = {**sequential(DENSE), "compile_config": {"loss": {"class_name": "MyLoss", "module": "mine"}}}
    assert read_archive(archive(tmp_path / "m.keras", config), "u", LIMIT).compile == {"loss": "MyLoss"}


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (
            {
                "loss": "mse",
                "optimizer": {
                    "class_name": "Adam",
                    "module": "keras.optimizers",
                    "config": {"learning_rate": 0.01},
                },
            },
            {"loss": "mse", "optimizer": "Adam", "learningRate": 0.01},
        ),
        (
            {"loss": {"class_name": "Huber"}, "optimizer_config": {"class_name": "SGD", "config": {}}},
            {"loss": "Huber", "optimizer": "SGD"},
        ),
        (
            {
                "optimizer": {
                    "class_name": "Adam",
                    "config": {"learning_rate": {"class_name": "CosineDecay", "config": {}}},
                },
                "loss": {"class_name": "function", "config": "mean_squared_error"},
            },
            {"loss": "mean_squared_error", "optimizer": "Adam"},
        ),
        ({"loss": [["a"], {}], "optimizer": 3}, {}),
        ({"optimizer": {"class_name": "SGD", "config": {"learning_rate": True}}}, {"optimizer": "SGD"}),
        (None, {}),
    ],
)
def test_loss_optimizer_and_learning_rate_are_read_where_they_are_plain(config: Any, found: Any) -> None:
    assert compile_settings(config) == found


def test_a_config_nested_without_end_is_refused(tmp_path: Path) -> None:
    config: Any = "x"
    for _ in range(300):
        config = {"class_name": "Dense", "config": config}
    assert "nested too deeply" in refused(read_archive, archive(tmp_path / "m.keras", config)).message


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"../evil": b"x"}, "outside of it"),
        ({"/etc/evil": b"x"}, "outside of it"),
        ({"assets/vocabulary.txt": b"x"}, "member 'assets/vocabulary.txt'"),
        ({"code.py": b"x"}, "member 'code.py'"),
        ({"model.weights.h5": bytes(900_000)}, "HDF5 content is truncated or damaged"),
        ({"model.weights.h5": bytes(2 << 20)}, "would unpack from"),
        ({"config.json": b"{"}, "no readable config.json"),
        ({"config.json": b"[]"}, "names no model class"),
        ({"config.json": b"[" * 100_000}, "no readable config.json"),
    ],
)
def test_an_archive_with_odd_members_is_refused(tmp_path: Path, more: dict[str, bytes], said: str) -> None:
    error = refused(read_archive, archive(tmp_path / "m.keras", sequential(DENSE), more))
    assert error.reason is Reason.MODEL_UNREADABLE
    assert said in error.message


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    config = sequential(DENSE)
    for read, path in (
        (read_archive, archive(tmp_path / "m.keras", config)),
        (read_h5, h5(tmp_path / "m.h5", config)),
    ):
        whole = path.read_bytes()
        for length in (len(whole) // 2, len(whole) - 30):
            path.write_bytes(whole[:length])
            error = refused(read, path)
            assert error.reason is Reason.MODEL_UNREADABLE
            assert "truncated or damaged" in error.message


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["dense/kernel"] = np.zeros(3)
    assert "no model_config" in refused(read_h5, tmp_path / "w.h5").message


def test_weights_that_lie_in_other_files_are_refused(tmp_path: Path) -> None:
    path = h5(tmp_path / "m.h5", sequential(DENSE))
    (tmp_path / "secret").write_bytes(bytes(16))
    for spoil in (
        lambda file: file.__setitem__("link", h5py.ExternalLink("/etc/other.h5", "/x")),
        lambda file: file.__setitem__("link", h5py.SoftLink("/nowhere")),
        lambda file: file.create_dataset("d", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)]),
    ):
        h5(path, sequential(DENSE))
        with h5py.File(path, "a") as file:
            spoil(file)
        error = refused(read_h5, path)
        assert error.reason is Reason.MODEL_UNSAFE
        assert "must be inside" in error.message


def test_a_dataset_of_absurd_shape_is_refused(tmp_path: Path) -> None:
    path = h5(tmp_path / "m.h5", sequential(DENSE))
    with h5py.File(path, "a") as file:
        file.create_dataset("huge", (1 << 30, 1 << 10), "f4", chunks=(1, 1024))
    assert "'/huge' has the absurd shape [1073741824, 1024]" in refused(read_h5, path).message


def test_formats_are_told_by_content(tmp_path: Path) -> None:
    assert source_format(archive(tmp_path / "a.bin", sequential(DENSE)), "u") is SourceFormat.KERAS
    assert source_format(h5(tmp_path / "b.keras", sequential(DENSE)), "u") is SourceFormat.H5
    (tmp_path / "c").write_bytes(b"\x1c\0\0\0TFL3" + bytes(20))
    assert source_format(tmp_path / "c", "u") is SourceFormat.TFLITE
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "saved_model.pb").touch()
    assert source_format(tmp_path / "d", "u") is SourceFormat.SAVED_MODEL


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"%PDF-1.7 and so on", "begin with b'%PDF-1.7'"),
        (b"PK\x03\x04 no zip", "truncated or damaged archive"),
        (None, "without saved_model.pb"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "model.keras"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(StageError, match=r"^u: .*expected a Keras \.keras or \.h5 file") as caught:
        source_format(path, "u")
    assert said in caught.value.message
