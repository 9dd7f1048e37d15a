"""What of an intake decides on a search."""

import pytest
from paretune_contract.dataset import ArrayInfo, DataInfo, Split
from paretune_contract.model import LayerInfo, ModelInfo, SourceFormat
from paretune_contract.stages import IntakeResult
from paretune_contract.summary import NAMED, IntakeSummary, summarize

SHA = "a" * 64


def layer(
    name: str = "conv", operator: str = "CONV_2D", shape: tuple[int, ...] = (8, 3, 3, 8), **flags: bool
) -> LayerInfo:
    chosen = {"trainable": True, "prunable": True, "clusterable": True, "int4": True, **flags}
    return LayerInfo(
        name=name, operator=operator, weight_tensor=1, weight_shape=shape, weights=576, macs=1000, **chosen
    )


def intake(*layers: LayerInfo, **fields: object) -> IntakeResult:
    model = ModelInfo(
        uri="m.keras", format=SourceFormat.KERAS, source_sha256="b" * 64, path="/m.tflite", sha256=SHA,
        bytes=400, inputs=(), outputs=(), layers=layers, parameters=100, macs=1000,
        untrainable=tuple(f"op-{n}" for n in range(20)),
    )  # fmt: skip
    return IntakeResult.model_validate({"model": model, **fields})


def data(split: Split, labels: bool) -> DataInfo:
    array = ArrayInfo(file="x.npy", shape=(10, 4), dtype="float32")
    return DataInfo(
        split=split, uri="x.npz", folder="/x", digest="c" * 64, samples=10, inputs={"x": array},
        labels=array if labels else None,
    )  # fmt: skip


def test_a_summary_has_the_numbers_of_the_model_and_not_its_layers() -> None:
    found = summarize(intake(layer("a"), layer("b", "FULLY_CONNECTED"))).model
    assert (found.sha256, found.source_sha256) == (SHA, "b" * 64)
    assert (found.bytes, found.parameters, found.macs, found.layers) == (400, 100, 1000, 2)
    assert found.operators == ("CONV_2D", "FULLY_CONNECTED")
    assert found.format is SourceFormat.KERAS


def test_a_technique_is_possible_when_one_layer_allows_it() -> None:
    none = summarize(intake(layer(prunable=False, clusterable=False, int4=False))).model
    assert {none.prunable, none.clusterable, none.int4, none.two_of_four} == {False}
    some = summarize(intake(layer(prunable=False, clusterable=False, int4=False), layer())).model
    assert some.prunable
    assert some.clusterable
    assert some.int4
    assert some.two_of_four


def test_two_of_four_needs_a_prunable_layer_with_channels_in_fours() -> None:
    assert not summarize(intake(layer(shape=(8, 3, 3, 3)), layer(prunable=False))).model.two_of_four
    assert summarize(intake(layer(shape=(8, 3, 3, 3)), layer(shape=(10, 64)))).model.two_of_four


def test_names_are_a_few_and_sorted_and_a_model_that_cannot_be_trained_still_says_so() -> None:
    found = summarize(intake(*(layer(operator=f"OP_{n:02d}") for n in reversed(range(20))))).model
    assert found.operators == tuple(f"OP_{n:02d}" for n in range(NAMED))
    assert found.untrainable == tuple(f"op-{n}" for n in range(NAMED))


def test_a_part_of_the_data_says_how_many_and_whether_it_has_labels() -> None:
    parts = {Split.TRAIN: data(Split.TRAIN, True), Split.EVALUATION: data(Split.EVALUATION, False)}
    found = summarize(intake(layer(), data=parts)).data
    assert set(found) == set(parts)
    assert (found[Split.TRAIN].samples, found[Split.TRAIN].labels) == (10, True)
    assert not found[Split.EVALUATION].labels
    assert found[Split.TRAIN].digest == "c" * 64


def test_notes_are_bounded_and_so_is_each_of_them() -> None:
    found = summarize(intake(layer(), notes=("n" * 5000,) * 40)).notes
    assert len(found) == 16
    assert {len(note) for note in found} == {2048}


def test_long_names_of_operators_are_clipped_and_not_refused() -> None:
    (name,) = summarize(intake(layer(operator="X" * 1000))).model.operators
    assert len(name) == 256


def test_the_size_of_a_summary_does_not_grow_with_the_layers() -> None:
    few, many = (summarize(intake(*(layer(f"l{n}") for n in range(count)))) for count in (10, 1000))
    # The two counts of layers, with two digits more each.
    assert len(many.model_dump_json()) - len(few.model_dump_json()) <= 4


def test_a_summary_is_the_same_after_it_has_been_in_a_status() -> None:
    found = summarize(intake(layer(), data={Split.EVALUATION: data(Split.EVALUATION, True)}))
    plain = found.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    assert IntakeSummary.model_validate(plain) == found


def test_an_intake_without_a_model_has_no_summary() -> None:
    with pytest.raises(ValueError, match="no model"):
        summarize(IntakeResult())
