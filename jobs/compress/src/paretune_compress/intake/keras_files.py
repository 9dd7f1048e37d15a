"""Keras files read as data: config and training settings, before any Keras code sees them."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretune_contract.failure import Reason, StageError

from .allowed import check_config

CONFIG_LIMIT = 64 * 2**20
WEIGHTS_LIMIT = 8 * 2**30
RATIO_LIMIT = 200
_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")


@dataclass(frozen=True)
class KerasConfig:
    """What a Keras file says of its model. `keras3` tells who can load it."""

    config: dict[str, Any]
    compile: dict[str, str | float]
    keras3: bool


def read_archive(path: Path, uri: str) -> KerasConfig:
    """The config inside a `.keras` archive, checked.

    Raises:
        StageError: MODEL_UNREADABLE or MODEL_UNSAFE.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename
                if name not in _MEMBERS and not name.startswith("assets/"):
                    raise _unreadable(uri, f"the archive has a member {name!r}; expected {', '.join(_MEMBERS)}")
                if ".." in Path(name).parts or Path(name).is_absolute():
                    raise _unreadable(uri, f"the archive has a member {name!r} outside of it")
                limit = WEIGHTS_LIMIT if name.endswith(".h5") else CONFIG_LIMIT
                bomb = member.file_size > 2**20 and member.file_size > RATIO_LIMIT * member.compress_size
                if member.file_size > limit or bomb:
                    raise _unreadable(uri, f"member {name!r} would unpack to {member.file_size:,} bytes")
            broken = archive.testzip()
            if broken:
                raise _unreadable(uri, f"member {broken!r} is damaged")
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise _unreadable(uri, f"the .keras archive is truncated or damaged ({error})") from error
    except (KeyError, ValueError, RecursionError) as error:
        raise _unreadable(uri, f"no readable config.json in the .keras archive ({error})") from error
    return _checked(config, uri, compiled=config.get("compile_config") if isinstance(config, dict) else None, keras3=True)


def read_h5(path: Path, uri: str) -> KerasConfig:
    """The config in the attributes of an `.h5` file, checked.

    Raises:
        StageError: MODEL_UNREADABLE or MODEL_UNSAFE.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            training = file.attrs.get("training_config")
            version = file.attrs.get("keras_version", "")
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(uri, f"the .h5 file is truncated or damaged ({error})") from error
    if text is None:
        raise _unreadable(uri, "the .h5 file holds weights only (no model_config); save the whole model")
    try:
        config = json.loads(text)
        compiled = json.loads(training) if training is not None else None
    except (ValueError, RecursionError) as error:
        raise _unreadable(uri, f"model_config is no JSON ({error})") from error
    return _checked(config, uri, compiled, keras3=str(version).startswith("3"))


def _checked(config: Any, uri: str, compiled: Any, *, keras3: bool) -> KerasConfig:
    if not isinstance(config, dict) or "class_name" not in config:
        raise _unreadable(uri, "the config names no model class")
    try:
        check_config({k: v for k, v in config.items() if k != "compile_config"}, uri)
    except RecursionError as error:
        raise _unreadable(uri, str(error)) from error
    return KerasConfig(config, _compile(compiled), keras3)


def _compile(compiled: Any) -> dict[str, str | float]:
    """Loss, optimizer and learning rate, where they are plainly said."""
    if not isinstance(compiled, dict):
        return {}
    found: dict[str, str | float] = {}
    loss = compiled.get("loss")
    if isinstance(loss, dict):
        loss = loss.get("class_name") or (loss.get("config") or {}).get("name")
    if isinstance(loss, str):
        found["loss"] = loss
    optimizer = compiled.get("optimizer", compiled.get("optimizer_config"))
    if isinstance(optimizer, str):
        found["optimizer"] = optimizer
    if isinstance(optimizer, dict):
        if isinstance(optimizer.get("class_name"), str):
            found["optimizer"] = optimizer["class_name"]
        rate = (optimizer.get("config") or {}).get("learning_rate")
        if isinstance(rate, int | float) and not isinstance(rate, bool):
            found["learningRate"] = float(rate)
    return found


def _unreadable(uri: str, cause: str) -> StageError:
    return StageError(Reason.MODEL_UNREADABLE, f"{uri}: {cause}")
