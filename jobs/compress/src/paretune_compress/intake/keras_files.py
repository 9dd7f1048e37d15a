"""Keras files read as data: config and training settings, before any Keras code sees them."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from paretune_contract.failure import Reason, StageError

from .allowed import check_config
from .hdf5_files import check_hdf5

CONFIG_LIMIT = 64 * 2**20
RATIO_LIMIT = 200
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_MEMBERS = (_METADATA, _CONFIG, _WEIGHTS)


@dataclass(frozen=True)
class KerasConfig:
    """What a Keras file says of its model.

    Attributes:
        config: of the model, every class in it on the list of those that are read.
        compile: `loss`, `optimizer`, `learningRate` where the file says them plainly.
        keras3: whether Keras 3 can load it; else tf-keras can.
    """

    config: dict[str, Any]
    compile: dict[str, str | float]
    keras3: bool


def read_archive(path: Path, uri: str, limit_bytes: int) -> KerasConfig:
    """The config inside a `.keras` archive; archive, config and weights checked.

    Args:
        path: the file.
        uri: for errors.
        limit_bytes: most bytes of its weights.

    Raises:
        StageError: MODEL_UNREADABLE or MODEL_UNSAFE.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, uri, limit_bytes)
            config = json.loads(archive.read(_CONFIG))
            metadata = json.loads(archive.read(_METADATA))
            check_hdf5(io.BytesIO(archive.read(_WEIGHTS)), f"{uri}: {_WEIGHTS}", limit_bytes)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise _unreadable(uri, f"the .keras archive is truncated or damaged ({error})") from error
    except KeyError as error:
        raise _unreadable(uri, f"the archive is no .keras file ({str(error).strip(chr(34))})") from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(uri, f"the .keras archive holds no readable {_CONFIG} ({error})") from error
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    compiled = config.get("compile_config") if isinstance(config, dict) else None
    return _checked(config, uri, compiled, keras3=not str(version or "3").startswith("2"))


def read_h5(path: Path, uri: str, limit_bytes: int) -> KerasConfig:
    """The config in the attributes of an `.h5` file; config and weights checked.

    Raises:
        StageError: MODEL_UNREADABLE or MODEL_UNSAFE.
    """
    import h5py

    check_hdf5(path, uri, limit_bytes)
    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            training = file.attrs.get("training_config")
            version = _text(file.attrs.get("keras_version", ""))
    except Exception as error:  # h5py raises what the C library's codes are mapped to
        raise _unreadable(uri, f"the .h5 file is truncated or damaged ({error})") from error
    if text is None:
        raise _unreadable(uri, "the .h5 file holds no model_config: it is no Keras model, or weights only")
    try:
        config = json.loads(_text(text))
        compiled = json.loads(_text(training)) if training is not None else None
    except (ValueError, TypeError, RecursionError) as error:
        raise _unreadable(uri, f"the model_config is no JSON ({error})") from error
    return _checked(config, uri, compiled, keras3=version.startswith("3"))


def _check_members(archive: zipfile.ZipFile, uri: str, limit_bytes: int) -> None:
    names: set[str] = set()
    for member in archive.infolist():
        name = member.filename
        if name in names:
            raise _unreadable(uri, f"the archive has the member {name!r} twice")
        names.add(name)
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() or "\\" in name:
            raise _unreadable(uri, f"the archive has a member {name!r} outside of it")
        if name not in _MEMBERS and name != "assets/":
            raise _unreadable(uri, f"the archive has a member {name!r}; expected {', '.join(_MEMBERS)}")
        limit = limit_bytes if name == _WEIGHTS else CONFIG_LIMIT
        bomb = member.file_size > 2**20 and member.file_size > RATIO_LIMIT * member.compress_size
        if member.file_size > limit or bomb:
            raise _unreadable(
                uri,
                f"member {name!r} would unpack from {member.compress_size:,} to {member.file_size:,} bytes",
            )
    broken = archive.testzip()
    if broken:
        raise _unreadable(uri, f"member {broken!r} is damaged")


def _checked(config: Any, uri: str, compiled: Any, *, keras3: bool) -> KerasConfig:
    if not isinstance(config, dict) or "class_name" not in config:
        raise _unreadable(uri, "the config names no model class")
    try:
        check_config({k: v for k, v in config.items() if k != "compile_config"}, uri)
    except RecursionError as error:
        raise _unreadable(uri, str(error)) from error
    return KerasConfig(config, compile_settings(compiled), keras3)


def compile_settings(compiled: Any) -> dict[str, str | float]:
    """Loss, optimizer and learning rate of a compile or training config, where they are plainly said."""
    if not isinstance(compiled, dict):
        return {}
    found: dict[str, str | float] = {}
    loss = _class_or_name(compiled.get("loss"))
    if loss:
        found["loss"] = loss
    optimizer = compiled.get("optimizer", compiled.get("optimizer_config"))
    name = _class_or_name(optimizer)
    if name:
        found["optimizer"] = name
    settings = optimizer.get("config") if isinstance(optimizer, dict) else None
    rate = settings.get("learning_rate") if isinstance(settings, dict) else None
    if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < 1e6:
        found["learningRate"] = float(rate)
    return found


def _class_or_name(value: Any) -> str | None:
    """`adam` of "adam", of {"class_name": "adam"} and of {"class_name": "function", "config": "adam"}."""
    if isinstance(value, dict):
        name, config = value.get("class_name"), value.get("config")
        value = config if name == "function" and isinstance(config, str) else name
    return value[:100].removeprefix("Custom>") if isinstance(value, str) else None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _unreadable(uri: str, cause: str) -> StageError:
    return StageError(Reason.MODEL_UNREADABLE, f"{uri}: {cause}")
