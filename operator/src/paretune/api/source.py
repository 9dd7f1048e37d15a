"""A manifest's text as plain data with the line of each value. Every construct that surprises is a fault."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from .faults import Fault, path_text

MAX_BYTES = 3 * 2**19
"""1.5 MiB, the largest object that etcd takes."""
MAX_VALUES = 50_000
"""Values of a manifest after its aliases are followed."""
MAX_DEPTH = 40

Location = tuple[str | int, ...]

_NULL, _BOOL, _INT, _FLOAT, _STR, _MERGE = (
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "merge")
)
_MERGE_KEY = "<<"


class _Loader(yaml.SafeLoader):
    """Resolves plain scalars as kubectl does: `2:4` and `2026-11-23` are text, `1e-3` is a number."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag in (_NULL, _BOOL, _MERGE)]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _INT, re.compile(r"^[-+]?(0|[1-9][0-9_]{0,39}|0x[0-9a-fA-F]{1,16}|0o[0-7]{1,22})$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^([-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,4})?|[-+]?[0-9]+[eE][-+]?[0-9]{1,4}"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)


@dataclass
class Source:
    """What was read.

    Attributes:
        data: the document as dicts, lists and scalars; None when there is none or it cannot be read.
        lines: line of each value by its location, from 1.
        faults: what is wrong with the text itself.
    """

    data: Any = None
    lines: dict[Location, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, location: Location) -> int:
        """Line of a location, or of the nearest part around it; 0 when nothing is known."""
        return next(
            (self.lines[location[:n]] for n in range(len(location), -1, -1) if location[:n] in self.lines), 0
        )


class _UnreadableError(Exception):
    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message, self.line = message, line


def read(text: str) -> Source:
    """Read one YAML document. Never raises for what the text says; faults are in the result."""
    try:
        return _read(text)
    except _UnreadableError as error:
        return Source(faults=[Fault("", None, error.message, error.line)])
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        context = f" {error.context}" if error.context else ""
        message = f"no YAML: {place}{error.problem or 'cannot be parsed'}{context}"
        return Source(faults=[Fault("", None, message, mark.line + 1 if mark else 0)])
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        message = f"no YAML: line {line}: the character {chr(_code(error))!r} is not allowed"
        return Source(faults=[Fault("", None, message, line)])
    except RecursionError:
        return Source(faults=[Fault("", None, f"nested too deeply; expected at most {MAX_DEPTH} levels")])


def _read(text: str) -> Source:
    size = len(text.encode(errors="replace"))
    if size > MAX_BYTES:
        raise _UnreadableError(f"{size:,} bytes; expected at most {MAX_BYTES:,}, as Kubernetes does")
    documents = [n for n in yaml.compose_all(text, Loader=_Loader) if n is not None and not _is_null(n)]
    if not documents:
        raise _UnreadableError("empty; expected kind: OptimizationStudy")
    if len(documents) > 1:
        lines = ", ".join(str(_line(node)) for node in documents)
        raise _UnreadableError(
            f"{len(documents)} documents, on lines {lines}; expected one OptimizationStudy in a file",
            _line(documents[1]),
        )
    source = Source()
    source.data = _Builder(source).value(documents[0], ())
    return source


def _code(error: yaml.reader.ReaderError) -> int:
    return error.character if isinstance(error.character, int) else ord(str(error.character)[:1] or "?")


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


class _Builder:
    """Data from nodes; aliases are followed, and what they multiply is counted."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._count = 0

    def value(self, node: yaml.Node, at: Location, line: int | None = None) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            raise _UnreadableError(f"more than {MAX_VALUES:,} values; aliases (*) may multiply them")
        if len(at) > MAX_DEPTH:
            raise _UnreadableError(f"nested too deeply; expected at most {MAX_DEPTH} levels")
        self._source.lines[at] = line or _line(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*at, index)) for index, child in enumerate(node.value)]
        return self._scalar(node, at)

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(at, None, "a field's name must be text", _line(key))
            elif key.tag == _MERGE or (key.value == _MERGE_KEY and not key.style):
                continue
            elif key.value in first:
                message = f"given twice, on lines {first[key.value]} and {_line(key)}"
                self._fault((*at, key.value), None, message, _line(key))
            else:
                first[key.value] = _line(key)
                found[key.value] = self.value(child, (*at, key.value), _line(key))
        for merged in self._merged(node, at):
            for name, value in merged.items():
                found.setdefault(name, value)
        return found

    def _merged(self, node: yaml.MappingNode, at: Location) -> Iterator[dict[str, Any]]:
        for key, child in node.value:
            if key.tag != _MERGE:
                continue
            for part in child.value if isinstance(child, yaml.SequenceNode) else [child]:
                if isinstance(part, yaml.MappingNode):
                    yield self.value(part, (*at, _MERGE_KEY))
                else:
                    self._fault(at, None, "<< merges a mapping or a list of mappings", _line(part))

    def _scalar(self, node: yaml.Node, at: Location) -> Any:
        text, tag = str(node.value), node.tag
        try:
            if tag == _NULL:
                return None
            if tag == _BOOL:
                return text.lower() in ("true", "yes", "on")
            if tag == _INT:
                return int(text.replace("_", ""), 0)
            if tag == _FLOAT:
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            return text
        if tag != _STR:
            self._fault(at, text, f"the tag {tag} is not accepted; expected plain YAML", _line(node))
        return text

    def _fault(self, at: Location, value: Any, message: str, line: int) -> None:
        self._source.faults.append(Fault(path_text(at), value, message, line))
