"""Settings that someone wrote, and what is wrong with them, in words."""

import re
from collections.abc import Iterable
from typing import Any

from paretune_contract.settings import LayerSettings, Settings
from pydantic import ValidationError

from ..api.faults import path_text, shown, suggestion
from ..api.source import Location

_NOTHING = object()
_DICTIONARY = re.compile(r"a valid dictionary or instance of \w+")


def settings_from(plain: Any) -> Settings:
    """Settings from plain data; None is the untouched model.

    Raises:
        ValueError: with every fault on a line: path, value, and what would be right.
    """
    if plain is not None and not isinstance(plain, dict):
        raise ValueError(f"settings: {shown(plain)}expected a mapping such as quantization: {{scheme: int8}}")
    try:
        return Settings.model_validate(plain or {})
    except ValidationError as error:
        raise ValueError("\n".join(_faults(error, plain))) from error


def plain_words(message: str) -> str:
    """What pydantic says of a value, in the words of our own faults."""
    found = message.replace("Input should be", "expected").replace("a valid tuple", "a list")
    found = found.replace("Field required", "is required")
    return _DICTIONARY.sub("a mapping", found)


def _faults(error: ValidationError, plain: Any) -> Iterable[str]:
    """What is wrong with settings, a line each."""
    for one in error.errors():
        loc, missing = one["loc"], one["type"] == "missing"
        # A part is validated on its own and knows no path above it: the document does.
        above = _path_of(plain, one["input"], loc[:-1] if missing else loc) or ()
        path = path_text(("settings", *above, *loc))
        message = plain_words(one["msg"])
        if one["type"] == "extra_forbidden":
            message = f"unknown field{suggestion(str(loc[-1]), _fields_at((*above, *loc[:-1])))}"
        yield f"{path}: is required" if missing else f"{path}: {shown(one['input'])}{message}"


def _fields_at(path: Location) -> Iterable[str]:
    """Fields of the part of settings at a path."""
    last = path[-1] if path else ""
    part: Any = LayerSettings if isinstance(last, int) else Settings
    if last in Settings.model_fields and last != "layers":
        part = Settings.model_fields[str(last)].annotation
    return tuple(part.model_fields)


def _path_of(plain: Any, value: Any, tail: Location) -> Location | None:
    """Where a document has this very object at the end of `tail`: the path above that."""
    if _at(plain, tail) is value:
        return ()
    parts = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, part in parts:
        found = _path_of(part, value, tail)
        if found is not None:
            return (key, *found)
    return None


def _at(plain: Any, path: Location) -> Any:
    for key in path:
        if isinstance(plain, dict):
            there = key in plain
        else:
            there = isinstance(plain, list) and isinstance(key, int) and key < len(plain)
        if not there:
            return _NOTHING
        plain = plain[key]
    return plain
