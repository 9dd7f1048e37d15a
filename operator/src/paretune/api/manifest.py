"""Manifests: from text to a study, with every fault at once."""

import json
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .faults import Fault, ManifestError, listed, path_text, suggestion
from .meta import API_VERSION
from .rules import cross_faults
from .schema import METRIC_PATTERN, PATTERN_WORDS
from .source import Location, Source, read
from .study import MUTABLE, OptimizationStudy, StudySpec

__all__ = ["Fault", "ManifestError", "faults", "immutable_difference", "load", "study_from"]

KIND = "OptimizationStudy"


def load(text: str, source: str, *, base: Path | None = None) -> OptimizationStudy:
    """The study that a manifest describes.

    Args:
        text: the manifest.
        source: name of the file, for messages.
        base: folder to which relative URIs are relative; with it, local files must exist.

    Raises:
        ManifestError: with every fault, when there is one.
    """
    read_source = read(text)
    found = _faults(read_source, base)
    if found:
        raise ManifestError(found, source)
    return _validated(read_source.data)


def faults(text: str, *, base: Path | None = None) -> list[Fault]:
    """Everything that is wrong with a manifest, in the order of its lines; empty when it is valid.

    Args:
        text: the manifest.
        base: folder to which relative URIs are relative; with it, local files must exist. Without it nothing
            outside the text is looked at.
    """
    return _faults(read(text), base)


def study_from(document: Mapping[str, Any], source: str = "") -> OptimizationStudy:
    """The study in a document that is plain data already, such as an object of the API server.

    Raises:
        ManifestError: with every fault, when there is one.
    """
    found = _faults(Source(data=dict(document)), None)
    if found:
        raise ManifestError(found, source)
    return _validated(document)


def immutable_difference(old: OptimizationStudy, new: OptimizationStudy) -> list[Fault]:
    """Fields that differ although they may not: all but `spec.budget` and `spec.suspend`.

    Defaults count as if they were written, so that writing one down is no change.
    """
    found = []
    if old.metadata.name != new.metadata.name:
        found.append(_changed(("metadata", "name"), old.metadata.name, new.metadata.name))
    for name, field in type(old.spec).model_fields.items():
        if name not in MUTABLE:
            before, after = getattr(old.spec, name), getattr(new.spec, name)
            found += _differences(("spec", field.alias or name), before, after)
    return found


def _differences(at: Location, old: Any, new: Any) -> Iterable[Fault]:
    if old == new:
        return
    if isinstance(old, BaseModel) and type(old) is type(new):
        for name, field in type(old).model_fields.items():
            yield from _differences((*at, field.alias or name), getattr(old, name), getattr(new, name))
        return
    if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences((*at, index), before, after)
        return
    yield _changed(at, old, new)


def _changed(at: Location, old: Any, new: Any) -> Fault:
    was = "" if isinstance(old, tuple | BaseModel) else f" from {json.dumps(_plain(old), default=str)}"
    return Fault(
        path_text(at),
        _plain(new),
        f"changed{was}, which a study that has begun does not allow; only budget and suspend may change",
    )


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


# --- faults -----------------------------------------------------------------------------------------------


def _faults(source: Source, base: Path | None) -> list[Fault]:
    if source.data is None:
        return source.faults
    data = source.data
    if not isinstance(data, Mapping) or "kind" not in data:
        return [*source.faults, Fault("", None, f"expected kind: {KIND}", source.line(()))]
    if data["kind"] != KIND:
        return [*source.faults, _at(source, ("kind",), data["kind"], f"expected kind: {KIND}")]
    found: dict[tuple[str, str], Fault] = {}
    try:
        _validated(data)
    except ValidationError as error:
        for details in error.errors():
            fault = _in_plain_words(details, source)
            if not _only_counts_sound_entries(details, fault.value):
                found.setdefault((fault.path, fault.message), fault)
    if "apiVersion" not in data:
        fault = _at(source, ("apiVersion",), None, f"is required: {API_VERSION}")
        found[fault.path, fault.message] = fault
    spec = data.get("spec")
    for fault in cross_faults(spec, base) if isinstance(spec, Mapping) else ():
        line = source.line(_location(fault.path))
        found.setdefault((fault.path, fault.message), Fault(fault.path, fault.value, fault.message, line))
    return sorted([*source.faults, *found.values()], key=lambda fault: fault.line)


def _validated(data: Mapping[str, Any]) -> OptimizationStudy:
    # Through JSON and strict, as the API server reads it: "60" is no number there, and max_drop no field.
    # The status is the cluster's; a manifest that was fetched from there may carry one.
    document = json.dumps({k: v for k, v in data.items() if k != "status"})
    return OptimizationStudy.model_validate_json(document, strict=True, by_alias=True, by_name=False)


def _at(source: Source, location: Location, value: Any, message: str) -> Fault:
    return Fault(path_text(location), value, message, source.line(location))


def _in_plain_words(details: ErrorDetails, source: Source) -> Fault:
    location, value = _resolved(details["loc"], source.data)
    if details["type"] == "missing":
        value = None
    message = _message(details, location, value)
    return _at(source, location, value, message)


def _only_counts_sound_entries(details: ErrorDetails, value: Any) -> bool:
    """A list of faulty entries is called too short as well: pydantic counts the sound ones."""
    return (
        details["type"] == "too_short"
        and isinstance(value, list)
        and len(value) >= details.get("ctx", {}).get("min_length", 0)
    )


def _resolved(loc: Sequence[str | int], data: Any) -> tuple[Location, Any]:
    """The part of an error's location that exists in the document, and the value there."""
    found: list[str | int] = []
    for part in loc:
        if isinstance(data, Mapping) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif isinstance(data, Mapping) and part != "[key]":
            found.append(part)  # what is missing
            return tuple(found), None
        else:
            break
        found.append(part)
    return tuple(found), data


_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list: lines that begin with -",
    "list_type": "a list: lines that begin with -",
    "dict_type": "a mapping: lines of the form name: value",
}
_BOUNDS = {
    "greater_than": ("gt", "more than {}"),
    "greater_than_equal": ("ge", "at least {}"),
    "less_than": ("lt", "less than {}"),
    "less_than_equal": ("le", "at most {}"),
    "string_too_short": ("min_length", "at least {} characters"),
    "string_too_long": ("max_length", "at most {} characters"),
    "too_short": ("min_length", "at least {} entries"),
    "too_long": ("max_length", "at most {} entries"),
}


def _message(details: ErrorDetails, location: Location, value: Any) -> str:  # noqa: PLR0911 - one for each kind
    kind, context = details["type"], details.get("ctx", {})
    if kind == "missing":
        description = _description(location)
        return f"is required: {description}" if description else "is required"
    if kind == "extra_forbidden":
        return _unknown_field(location)
    if kind in ("enum", "literal_error"):
        known = [word.strip(" '") for word in str(context["expected"]).replace(" or ", ", ").split(",")]
        hint = suggestion(value, known) if isinstance(value, str) else ""
        return f"expected {'one of ' if len(known) > 1 else ''}{listed(known)}{hint}"
    if kind == "plain_words":
        return str(context["message"])
    if kind in ("model_type", "model_attributes_type", "dataclass_type"):
        return f"{_found(value)}expected a mapping with the fields {listed(_fields(location))}"
    if kind in _TYPES:
        return f"{_found(value)}expected {_TYPES[kind]}"
    if kind in _BOUNDS:
        key, form = _BOUNDS[kind]
        limit = context[key]
        plural = form.replace("characters", "character").replace("entries", "entry") if limit == 1 else form
        return f"expected {plural.format(f'{limit:,}' if isinstance(limit, int) else f'{limit:g}')}"
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        device = (
            "; the device is a field of its own" if pattern == METRIC_PATTERN and "/" in str(value) else ""
        )
        return f"expected {PATTERN_WORDS.get(pattern, f'text that matches {pattern}')}{device}"
    return details["msg"][:1].lower() + details["msg"][1:]


def _found(value: Any) -> str:
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a mapping",
    }
    return f"found {kinds[type(value)]}; " if type(value) in kinds else "found nothing; "


def _unknown_field(location: Location) -> str:
    known = _fields(location[:-1])
    hint = suggestion(str(location[-1]), known)
    if hint:
        return f"unknown field{hint}"
    homes = [section for section, names in _sections().items() if location[-1] in names and len(location) > 1]
    if len(homes) == 1:
        return f"unknown field; it belongs in {homes[0]}"
    return f"unknown field; expected one of {listed(known)}"


def _sections() -> dict[str, list[str]]:
    """Fields of each section of a study's spec."""
    fields = {field.alias or name: field.annotation for name, field in StudySpec.model_fields.items()}
    models = {name: _model_in(annotation) for name, annotation in fields.items()}
    return {
        "spec": list(fields),
        **{
            f"spec.{name}": [f.alias or n for n, f in model.model_fields.items()]
            for name, model in models.items()
            if model is not None
        },
    }


def _fields(location: Location) -> list[str]:
    model = _model_at(location)
    if model is None:
        return []
    names = [field.alias or name for name, field in model.model_fields.items()]
    return [name for name in names if not (model is OptimizationStudy and name == "status")]


def _description(location: Location) -> str:
    model, last = _model_at(location[:-1]), location[-1] if location else ""
    for field in model.model_fields.values() if model else ():
        if field.alias == last:
            text = field.description or ""
            return text[:1].lower() + text[1:].rstrip(".") if text[1:2].islower() else text.rstrip(".")
    return ""


def _model_at(location: Location) -> type[BaseModel] | None:
    """The model that describes the mapping at a location of a study."""
    annotation: Any = OptimizationStudy
    for part in location:
        model = _model_in(annotation)
        if isinstance(part, int) or model is None:
            annotation = _element(annotation)
            continue
        field = next((f for f in model.model_fields.values() if f.alias == part), None)
        if field is None:
            return None
        annotation = field.annotation
    return _model_in(annotation)


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [a for a in get_args(annotation) if a is not type(None)]
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    return [annotation]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None


def _element(annotation: Any) -> Any:
    for member in _members(annotation):
        arguments = get_args(member)
        if get_origin(member) is tuple:
            return arguments[0]
        if get_origin(member) is dict:
            return arguments[1]
    return None


def _location(path: str) -> Location:
    """`spec.objectives[0].metric` taken apart."""
    found: list[str | int] = []
    for part in path.replace("[", ".[").split("."):
        found.append(int(part[1:-1]) if part.startswith("[") else part)
    return tuple(found)
