"""CustomResourceDefinitions, generated from the models: `python -m paretune.api.crds FOLDER`.

What pydantic calls a JSON schema becomes a structural schema: OpenAPI v3 without references, each node with a
type, bounds and descriptions kept. Where the cluster must say something else than the model, the field says
so beside itself, in `json_schema_extra` under `x-crd`.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from .meta import GROUP, VERSION
from .pool import DevicePool
from .schema import CRD, NO_DEFAULTS, RULES
from .study import OptimizationStudy
from .trial import OptimizationTrial

Schema = dict[str, Any]

_DROPPED = ("title", "additionalProperties", "$defs", "propertyNames", CRD)
_STANDARD = {
    "apiVersion": "Version of the schema that this object is written in.",
    "kind": "Kind of the object.",
}


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; those with a priority above 0 stand under `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0
    description: str = ""

    def plain(self) -> Schema:
        """The column as it stands in a CustomResourceDefinition."""
        plain: Schema = {"name": self.name, "type": self.type, "jsonPath": self.path}
        if self.description:
            plain["description"] = self.description
        return {**plain, "priority": self.priority} if self.priority else plain


@dataclass(frozen=True)
class Resource:
    """What a CustomResourceDefinition says beside its schema."""

    model: type[BaseModel]
    plural: str
    singular: str
    scope: str
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    defaults: bool = True
    """Whether the API server fills in defaults in `spec`."""

    @property
    def name(self) -> str:
        """Name of the CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"


_READY = Column("Ready", '.status.conditions[?(@.type=="Ready")].status')
_AGE = Column("Age", ".metadata.creationTimestamp", "date")

RESOURCES = (
    Resource(
        OptimizationStudy,
        "optimizationstudies",
        "optimizationstudy",
        "Namespaced",
        ("study", "studies"),
        (
            _READY,
            Column("Progress", ".status.progress", description="Trials ended of the budget's."),
            Column("Best", ".status.best", description="The best of each objective among feasible trials."),
            Column("Running", ".status.trials.running", "integer", 1),
            Column("Failed", ".status.trials.failed", "integer", 1),
            Column("Hypervolume", ".status.hypervolume", "number", 1),
            _AGE,
        ),
    ),
    Resource(
        OptimizationTrial,
        "optimizationtrials",
        "optimizationtrial",
        "Namespaced",
        ("trial", "trials"),
        (
            Column("Study", ".spec.studyName"),
            Column("Number", ".spec.number", "integer"),
            Column("State", ".status.state"),
            Column("Reason", ".status.reason"),
            Column("Message", ".status.message", priority=1),
            _AGE,
        ),
        defaults=False,  # a record stands as it was written, in canonical form
    ),
    Resource(
        DevicePool,
        "devicepools",
        "devicepool",
        "Cluster",
        ("dpool", "dpools"),
        (
            Column("Runtime", ".spec.runtime"),
            Column("Nodes", ".status.nodes", "integer", description="Nodes that match and are ready."),
            Column("Running", ".status.running", "integer", description="Benchmark pods on the pool."),
            _READY,
            _AGE,
        ),
    ),
)


def definition(resource: Resource) -> Schema:
    """The CustomResourceDefinition of a resource, as plain data."""
    kind = resource.model.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": resource.plural,
                "singular": resource.singular,
                "shortNames": list(resource.short_names),
                "categories": ["paretune"],
            },
            "scope": resource.scope,
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": structural(resource)},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [column.plain() for column in resource.columns],
                }
            ],
        },
    }


def structural(resource: Resource) -> Schema:
    """The structural schema of a resource."""
    raw = resource.model.model_json_schema(by_alias=True, mode="validation")
    convert = _Converter(raw.get("$defs", {}))
    properties = {}
    for name, node in raw["properties"].items():
        if name in _STANDARD:
            properties[name] = {"type": "string", "description": _STANDARD[name]}
        elif name == "metadata":
            properties[name] = {"type": "object"}
        else:
            properties[name] = convert(node, defaults=resource.defaults and name == "spec")
    return {
        "type": "object",
        "description": raw["description"],
        **({"required": ["spec"]} if "spec" in raw["required"] else {}),
        **({RULES: raw[RULES]} if RULES in raw else {}),
        "properties": properties,
    }


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def __call__(self, node: Schema, *, defaults: bool, optional: bool = False) -> Schema:
        merged = self._merged(node)
        extra = dict(merged.get(CRD, {}))
        defaults = defaults and not extra.pop(NO_DEFAULTS, False)
        out = {key: value for key, value in merged.items() if key not in _DROPPED}
        _openapi(out)
        if "properties" in out:
            required = out.get("required", ())
            out["properties"] = {
                name: self(child, defaults=defaults, optional=name not in required)
                for name, child in out["properties"].items()
            }
        elif isinstance(values := merged.get("additionalProperties"), dict):
            out["additionalProperties"] = self(values, defaults=defaults)
        if "items" in out:
            out["items"] = self(out["items"], defaults=defaults)
        _set_default(out, defaults and optional)
        extra_rules = extra.pop(RULES, [])
        out.update(extra)
        if extra_rules:
            out[RULES] = [*out.get(RULES, []), *extra_rules]
        return _ordered(out)

    def _merged(self, node: Schema) -> Schema:
        """The node with references and "or nothing" resolved; what stands beside a reference wins."""
        if "$ref" in node:
            target = self._merged(self._definitions[node["$ref"].rpartition("/")[2]])
        elif "anyOf" in node and any(option.get("type") == "null" for option in node["anyOf"]):
            (option,) = (o for o in node["anyOf"] if o.get("type") != "null")
            target = self._merged(option)
        else:
            return node
        beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
        both = {**target, **beside}
        if RULES in target and RULES in beside:
            both[RULES] = [*target[RULES], *beside[RULES]]
        return both


def _openapi(node: Schema) -> None:
    """JSON Schema 2020-12 words as OpenAPI 3.0 has them."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in node:
            node[bound], node[exclusive] = node[exclusive], True
    if "const" in node:
        node["enum"] = [node.pop("const")]


def _set_default(node: Schema, optional: bool) -> None:
    """Scalars and lists keep their default; a section with fields gets `{}`, and its fields fill it in."""
    nothing = "default" in node and node["default"] is None
    if "properties" in node and optional and not nothing and not node.get("required"):
        node["default"] = {}
    if not optional or node.get("default") in (None, "", []):
        node.pop("default", None)


_FIRST = ("description", "type", "format", "enum", "default", "required")
_LAST = ("additionalProperties", "items", "properties")


def _ordered(node: Schema) -> Schema:
    first = [key for key in _FIRST if key in node]
    last = [key for key in _LAST if key in node]
    between = [key for key in node if key not in (*_FIRST, *_LAST)]
    return {key: node[key] for key in (*first, *between, *last)}


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def text(resource: Resource) -> str:
    """The CustomResourceDefinition as it is committed."""
    body = yaml.dump(definition(resource), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    return f"# Generated by `python -m paretune.api.crds crds`. Do not edit.\n{body}"


def write(folder: Path) -> list[Path]:
    """Write all definitions into a folder, one file each; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for resource in RESOURCES:
        file = folder / f"{resource.name}.yaml"
        file.write_text(text(resource))
        files.append(file)
    return files


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m paretune.api.crds FOLDER")
    write(Path(sys.argv[1]))
