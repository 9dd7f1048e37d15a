"""What a manifest's text may be, before it says anything about a study."""

import pytest
from paretune.api.manifest import faults
from paretune.api.source import MAX_BYTES, read

HEAD = "apiVersion: paretune.dev/v1alpha1\nkind: OptimizationStudy\n"
LAUGHS = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize("text", ["", "\n\n", "# a comment\n", "---\n", "---\n...\n", "null\n"])
def test_an_empty_file_is_empty(text: str) -> None:
    (fault,) = faults(text)

    assert fault.message.startswith("empty")


@pytest.mark.parametrize("text", ["[1, 2]", "hello", "a: b", "42"])
def test_another_top_level_tells_the_kind_that_is_expected(text: str) -> None:
    (fault,) = faults(text)

    assert (fault.path, fault.message) == ("", "expected kind: OptimizationStudy")


def test_another_kind_is_the_only_fault() -> None:
    (fault,) = faults("apiVersion: v1\nkind: Pod\nspec: {}\n")

    assert (fault.path, fault.value, fault.line) == ("kind", "Pod", 2)
    assert fault.message == "expected kind: OptimizationStudy"


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: [1\nb: 2", "line 2, column 2"), ("a: b: c", "line 1, column 5"), ("a:\n\t- b", "line 2, column 1"),
     ("a: 1\nb: \x00", "line 2"), ("a: *nothing", "line 1, column 4")],
)  # fmt: skip
def test_yaml_faults_say_where(text: str, place: str) -> None:
    (fault,) = faults(text)

    assert fault.message.startswith("no YAML: " + place)


def test_a_field_given_twice_names_both_lines() -> None:
    found = [f for f in faults(HEAD + "metadata: {name: a}\nspec: {}\nspec: {}\n") if "twice" in f.message]

    assert [(f.path, f.message) for f in found] == [("spec", "given twice, on lines 4 and 5")]


def test_several_documents_are_refused_with_their_lines() -> None:
    (fault,) = faults(f"{HEAD}---\nkind: DevicePool\n")

    assert fault.message == "2 documents, on lines 1, 4; expected one OptimizationStudy in a file"


def test_empty_documents_around_the_study_do_not_count() -> None:
    assert read(f"---\n---\n{HEAD}---\n").data["kind"] == "OptimizationStudy"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (LAUGHS, "aliases"),
        ("a: &a {b: *a}", "too deeply"),
        ("[" * 5000, "too deeply"),
        ("a: " + "x" * MAX_BYTES, "expected at most 1,572,864"),
    ],
)
def test_texts_made_to_exhaust_the_reader_are_refused(text: str, cause: str) -> None:
    (fault,) = faults(text)

    assert cause in fault.message


def test_tags_that_build_objects_are_refused() -> None:
    source = read("a: !!python/object/apply:os.system [ls]\nb: !!timestamp 2026-11-23\nc: !secret x")

    assert [f.path for f in source.faults] == ["b", "c"]
    assert source.data["a"] == ["ls"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [("2:4", "2:4"), ("2026-11-23", "2026-11-23"), ("1e-3", 0.001), ("010", "010"), ("1_000", 1000),
     ("0x10", 16), ("true", True), ("~", None), ("'60'", "60"), ("6h", "6h"), (".5", 0.5), ("-3", -3)],
)  # fmt: skip
def test_scalars_mean_what_kubectl_takes_them_for(written: str, meant: object) -> None:
    value = read(f"a: {written}").data["a"]

    assert (value, type(value)) == (meant, type(meant))


def test_merged_mappings_give_way_to_what_is_written() -> None:
    source = read("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a]}")

    assert source.data["b"] == {"x": 1, "y": 3}
    assert source.data["c"] == {"x": 1, "y": 2}
    assert source.faults == []
