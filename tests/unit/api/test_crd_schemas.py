"""The generated definitions: fresh, structural, bounded, described, and stricter than one machine."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from paretune.api import crds, reference
from paretune.api.crds import RESOURCES, Resource, definition, structural
from paretune.api.study import MUTABLE, StudySpec

ROOT = Path(__file__).parents[3]
KINDS = [r.model.__name__ for r in RESOURCES]
BY_KIND = dict(zip(KINDS, RESOURCES, strict=True))
Schema = dict[str, Any]
Node = tuple[str, Schema]

# https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
KNOWN = {
    "description", "type", "format", "enum", "default", "required", "properties", "items",
    "additionalProperties", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength",
    "maxLength", "pattern", "minItems", "maxItems", "minProperties", "maxProperties", "anyOf", "not",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
}  # fmt: skip
OPEN = "x-kubernetes-preserve-unknown-fields"
INT_OR_STRING = "x-kubernetes-int-or-string"


def nodes(path: str, node: Schema) -> Iterator[Node]:
    """The structural part of a schema; what stands in anyOf and not is only about values."""
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(f"{path}.{name}", child)
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if isinstance(node.get(key), dict):
            yield from nodes(path + suffix, node[key])


ALL: list[tuple[str, Schema]] = [n for r in RESOURCES for n in nodes(r.model.__name__, structural(r))]
OWN = [n for n in ALL if not n[0].endswith((".apiVersion", ".kind", ".metadata"))]


def faulty(found: list[Node], broken: Any) -> list[str]:
    return [path for path, node in found if broken(node)]


@pytest.mark.parametrize("resource", RESOURCES, ids=KINDS)
def test_the_committed_definition_is_fresh(resource: Resource) -> None:
    committed = ROOT / "crds" / f"{resource.name}.yaml"

    assert committed.read_text() == crds.text(resource), "run: python -m paretune.api.crds crds"


@pytest.mark.parametrize("resource", RESOURCES, ids=KINDS)
def test_the_committed_reference_is_fresh(resource: Resource) -> None:
    committed = ROOT / "docs" / "reference" / f"{resource.singular}.md"

    assert committed.read_text() == reference.page(resource), (
        "run: python -m paretune.api.reference docs/reference"
    )


@pytest.mark.parametrize("resource", RESOURCES, ids=KINDS)
def test_what_is_written_reads_back_without_anchors(resource: Resource) -> None:
    text = crds.text(resource)

    assert yaml.safe_load(text) == definition(resource)
    assert not re.search(r"[&*]id0", text)


def test_no_other_definition_is_committed() -> None:
    assert {f.name for f in (ROOT / "crds").glob("*.yaml")} == {f"{r.name}.yaml" for r in RESOURCES}


def test_every_node_has_one_type_or_says_why_not() -> None:
    types = {"object", "array", "string", "integer", "number", "boolean"}

    assert not faulty(ALL, lambda n: n.get("type") not in types and not (n.get(INT_OR_STRING) or n.get(OPEN)))
    assert not faulty(ALL, lambda n: n.get(INT_OR_STRING) and "type" in n)


def test_only_words_of_structural_schemas_are_used() -> None:
    assert not faulty(ALL, lambda n: set(n) - KNOWN)


def test_fields_and_free_names_never_stand_together() -> None:
    assert not faulty(ALL, lambda n: "properties" in n and "additionalProperties" in n)
    assert not faulty(ALL, lambda n: n.get("additionalProperties") in (True, False))


def test_alternatives_speak_of_values_only() -> None:
    assert not faulty(ALL, lambda n: "anyOf" in n and n["anyOf"] != [{"type": "integer"}, {"type": "string"}])
    assert not faulty(ALL, lambda n: "anyOf" in n and not n.get(INT_OR_STRING))
    assert not faulty(ALL, lambda n: set(n.get("not", {})) - {"enum"})


def test_exclusive_bounds_have_the_openapi_form() -> None:
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        assert not faulty(ALL, lambda n: exclusive in n and (n[exclusive] is not True or bound not in n))  # noqa: B023


def test_every_field_is_described() -> None:
    fields = [
        (f"{p}.{name}", c) for p, n in ALL for name, c in n.get("properties", {}).items() if p not in KINDS
    ]

    assert not faulty(fields, lambda n: len(n.get("description", "")) < 4)


def test_every_text_list_and_map_is_bounded() -> None:
    assert not faulty(OWN, lambda n: n.get("type") == "string" and not ("maxLength" in n or "enum" in n))
    assert not faulty(OWN, lambda n: n.get("type") == "array" and "maxItems" not in n)
    assert not faulty(OWN, lambda n: "additionalProperties" in n and "maxProperties" not in n)
    assert not faulty(
        OWN, lambda n: n.get(INT_OR_STRING) and not {"maxLength", "minimum", "pattern"} <= set(n)
    )


def test_every_number_that_people_write_is_bounded() -> None:
    written = [n for n in OWN if ".spec" in n[0]]

    assert not faulty(
        written, lambda n: n.get("type") in ("integer", "number") and not {"minimum", "maximum"} <= set(n)
    )


def test_unknown_fields_are_kept_only_where_the_content_is_not_ours() -> None:
    assert faulty(ALL, lambda n: OPEN in n) == [
        "OptimizationStudy.spec.dataset.scale",
        "OptimizationStudy.spec.dataset.offset",
        "DevicePool.spec.affinity",
    ]


def test_merge_keys_are_required_fields_of_the_entries() -> None:
    keyed = [(p, n) for p, n in ALL if n.get("x-kubernetes-list-type") == "map"]

    assert len(keyed) == 3
    assert not faulty(
        keyed, lambda n: not set(n["x-kubernetes-list-map-keys"]) <= set(n["items"]["required"])
    )


FIRST_STATE = ("OptimizationTrial.status", "OptimizationTrial.status.state")
"""A record has a state from its first moment, without a write that says so."""


def test_defaults_stand_only_on_optional_fields_of_a_spec() -> None:
    for path, node in ALL:
        with_default = {name for name, child in node.get("properties", {}).items() if "default" in child}
        assert not with_default & set(node.get("required", ())), path
    assert not [p for p, n in ALL if "default" in n and ".spec" not in p and p not in FIRST_STATE]


def test_a_record_without_status_is_shown_as_compressing() -> None:
    assert [n["default"] for p, n in ALL if p in FIRST_STATE] == [{}, "Compressing"]


def test_defaults_keep_their_bounds() -> None:
    def broken(node: Schema) -> bool:
        default = node.get("default")
        if isinstance(default, str) and "pattern" in node:
            return not re.search(node["pattern"], default)
        if "enum" in node and default is not None:
            return default not in node["enum"]
        number = isinstance(default, int | float) and "minimum" in node
        return number and not node["minimum"] <= default <= node["maximum"]

    assert not faulty(ALL, broken)


def test_what_a_study_says_of_its_space_is_not_mixed_with_defaults() -> None:
    assert not [p for p, n in ALL if ".spec.space" in p and "default" in n]
    trial = [p for p, n in ALL if p.startswith("OptimizationTrial") and "default" in n]
    assert set(trial) == set(FIRST_STATE)


def test_all_of_a_study_but_budget_and_suspend_is_immutable() -> None:
    spec = structural(BY_KIND["OptimizationStudy"])["properties"]["spec"]
    frozen = {r["fieldPath"][1:] for r in spec["x-kubernetes-validations"] if "oldSelf" in r["rule"]}

    assert frozen == {field.alias for field in StudySpec.model_fields.values()} - MUTABLE


@pytest.mark.parametrize(
    ("field", "accepted", "refused"),
    [
        (
            "model",
            ["s3://b/m.keras", "models:/kws/3", "pvc://claim/m"],
            ["m.keras", "./m", "file:///m", "s3://b"],
        ),
        (
            "dataset.evaluation",
            ["gs://b/e.npz", "https://h/e.npz"],
            ["e.npz", "file:e.npz", "https://me:pw@h/e"],
        ),
    ],
)
def test_a_file_is_refused_in_a_cluster(field: str, accepted: list[str], refused: list[str]) -> None:
    node = structural(BY_KIND["OptimizationStudy"])["properties"]["spec"]
    for part in [*field.split("."), "uri"]:
        node = node["properties"][part]
    pattern = re.search(r"matches\('([^']+)'\)", node["x-kubernetes-validations"][0]["rule"])

    assert pattern
    assert all(re.match(pattern[1], uri) for uri in accepted)
    assert not any(re.match(pattern[1], uri) for uri in refused)


def test_rules_point_to_fields_that_exist_and_say_what_is_wrong() -> None:
    ruled = [(p, n, r) for p, n in ALL for r in n.get("x-kubernetes-validations", [])]

    assert len(ruled) > 20
    for path, node, rule in ruled:
        assert rule["message"], path
        for part in rule.get("fieldPath", "").split(".")[1:]:
            assert part in node["properties"], f"{path}: {rule['fieldPath']}"
            node = node["properties"][part]  # noqa: PLW2901 - one step down


def test_pools_are_the_clusters_and_the_rest_has_a_namespace() -> None:
    assert {k: r.scope for k, r in BY_KIND.items()} == {
        "OptimizationStudy": "Namespaced",
        "OptimizationTrial": "Namespaced",
        "DevicePool": "Cluster",
    }


@pytest.mark.parametrize("resource", RESOURCES, ids=KINDS)
def test_columns_point_into_the_schema(resource: Resource) -> None:
    for column in resource.columns:
        if column.path.startswith(".metadata") or "?" in column.path:
            continue
        node = structural(resource)
        for part in column.path[1:].split("."):
            node = node["properties"][part]
        assert node["type"] == column.type, column.name
