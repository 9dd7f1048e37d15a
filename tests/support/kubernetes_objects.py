"""Whether an object has the structure that the Kubernetes API gives to its kind, without an API server.

The official client knows every field and its type. It silently drops what it does not know, so unknown fields
are looked for here.
"""

import re
from collections.abc import Iterator
from typing import Any

from kubernetes import client

_SCALARS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "datetime": (str,),
}


def faults(document: dict[str, Any]) -> list[str]:
    """Unknown fields, wrong types and missing required fields, each with its path.

    Raises:
        KeyError: when the client does not know the kind: custom resources have schemas of their own.
    """
    group, _, version = document["apiVersion"].rpartition("/")
    name = f"{version.capitalize()}{document['kind']}"
    if not hasattr(client, name):
        raise KeyError(f"{group}/{version} {document['kind']} is no built-in kind")
    return list(_object(document, name, document["kind"]))


def _object(value: Any, model: str, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no {model}"
        return
    known: Any = getattr(client, model)
    fields = {known.attribute_map[name]: kind for name, kind in known.openapi_types.items()}
    for key, inner in value.items():
        if key not in fields:
            yield f"{path}.{key}: no field of {model}"
        elif inner is None:
            yield f"{path}.{key}: null"
        else:
            yield from _value(inner, fields[key], f"{path}.{key}")
    for name, field in known.model_fields.items():
        if field.is_required() and known.attribute_map[name] not in value:
            yield f"{path}.{known.attribute_map[name]}: missing, {model} requires it"


def _value(value: Any, kind: str, path: str) -> Iterator[str]:
    if inner := re.fullmatch(r"[Ll]ist\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{path}: {value!r} is no list"
            return
        for index, item in enumerate(value):
            yield from _value(item, inner[1], f"{path}[{index}]")
    elif inner := re.fullmatch(r"[Dd]ict[\[(]str, (.+)[\])]", kind):
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is no map"
            return
        for key, item in value.items():
            yield from _value(item, inner[1], f"{path}.{key}")
    elif kind in _SCALARS:
        if not isinstance(value, _SCALARS[kind]) or (kind in ("int", "float") and isinstance(value, bool)):
            yield f"{path}: {value!r} is no {kind}"
    elif kind != "object":
        yield from _object(value, kind, path)
