"""Where a study tries sparse files, where it does not, and what it says then."""

import re

import pytest
from paretune.search.space import available
from paretune_contract.dataset import Split
from paretune_contract.settings import (
    INTEGER_SCHEMES,
    LevelOf,
    Scheme,
    Settings,
    SparsityEncoding,
    SparsityPattern,
)
from unit.search.toy_study import intake, spec

BOTH = (SparsityEncoding.DENSE, SparsityEncoding.SPARSE)
ASKED = {"encodings": ["dense", "sparse"]}
SMALL = {
    "quantization": {
        "schemes": ["none", "float16", "int8"],
        "granularity": ["channel"],
        "training": ["none"],
    },
    "clustering": {"stages": ["none"]},
    "allocation": ["uniform"],
    "rate": {"stages": ["none"]},
}


def small(sparsity, **fields):
    return available(
        spec(space={**SMALL, "sparsity": sparsity, **fields.pop("space", {})}, **fields), intake()
    )


def why(space) -> str:
    return next((w.why for w in space.withheld if w.what == "sparsity.encoding.sparse"), "")


def test_a_study_that_does_not_ask_has_dense_files_alone():
    space = available(spec(), intake())
    assert space.encodings == (SparsityEncoding.DENSE,)
    assert "encoding" not in space.distributions
    assert not why(space)
    assert space.size == available(spec(space={"sparsity": {"encodings": ["dense"]}}), intake()).size


def test_an_encoding_is_chosen_for_float_weights_with_half_of_zeros_and_nowhere_else():
    space = small({"patterns": ["none", "unstructured", "2:4", "1x4", "channel"], **ASKED})
    assert space.encodings == BOTH
    seen = set()
    for cell in space.cells():
        scheme, pattern, level = cell.quantization.scheme, cell.sparsity.pattern, cell.sparsity.level
        zeros = {SparsityPattern.TWO_OF_FOUR: 0.5, SparsityPattern.CHANNEL: 0.0}.get(pattern, level)
        smaller = zeros >= 0.5 if scheme is Scheme.NONE else zeros > 0.5
        offered = scheme not in INTEGER_SCHEMES and smaller
        assert ("encoding" in space.params_of(cell)) is offered
        assert offered or cell.sparsity.encoding is SparsityEncoding.DENSE
        seen.add((scheme, pattern, cell.sparsity.encoding))
    assert (Scheme.FLOAT16, SparsityPattern.BLOCK, SparsityEncoding.SPARSE) in seen
    assert (Scheme.NONE, SparsityPattern.TWO_OF_FOUR, SparsityEncoding.SPARSE) in seen


@pytest.mark.parametrize("encodings", [["dense", "sparse"], ["sparse"]])
def test_cells_are_distinct_and_lead_to_parameters_and_back(encodings):
    space = small({"patterns": ["none", "unstructured"], "encodings": encodings})
    cells = list(space.cells())
    assert len({cell.digest() for cell in cells}) == len(cells)
    assert space.size == len(cells)
    for cell in cells:
        assert space.contains(cell)
    asked = {"sparsity": {"pattern": "unstructured", "level": 0.8, "encoding": "sparse"}}
    assert space.contains(Settings.model_validate(asked))
    low = {"sparsity": {"pattern": "unstructured", "level": 0.2, "encoding": "sparse"}}
    assert not space.contains(Settings.model_validate(low))


def test_zeros_are_worth_a_try_where_files_leave_them_out():
    objectives = [{"metric": "accuracy"}, {"metric": "modelSize"}]
    dense = available(spec(objectives), intake())
    assert SparsityPattern.UNSTRUCTURED not in dense.patterns
    sparse = available(spec(objectives, space={"sparsity": ASKED}), intake())
    assert {SparsityPattern.UNSTRUCTURED, SparsityPattern.TWO_OF_FOUR} <= set(sparse.patterns)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"devices": [{"name": "mcu", "runtime": "tflm"}]}, r"mcu \(runtime tflm\) reads dense files only"),
        ({"space": {"quantization": {"schemes": ["int8"]}}}, "neither none nor float16 is left"),
        ({"space": {"sparsity": {"patterns": ["channel"], **ASKED}}}, "no pattern with zeros is left"),
        (
            {"space": {"sparsity": {"patterns": ["none", "1x4"], "max": 0.45, **ASKED}}},
            r"space\.sparsity\.max is 0\.45",
        ),
        (
            {"space": {"layers": [{"match": "a", "quantization": {"scheme": "int8"}}]}},
            r"space\.layers\[0\] makes integers",
        ),
    ],
    ids=["runtime", "schemes", "patterns", "max", "layers"],
)
def test_sparse_files_are_left_out_with_the_reason(fields, reason):
    space = small(ASKED, **fields)
    assert space.encodings == (SparsityEncoding.DENSE,)
    assert re.search(reason, why(space))
    assert all(cell.sparsity.encoding is SparsityEncoding.DENSE for cell in space.cells())


def test_without_train_there_are_no_zeros_to_leave_out():
    space = available(spec(space={"sparsity": ASKED}), intake((Split.CALIBRATION, Split.EVALUATION)))
    assert "no pattern with zeros is left" in why(space)


def test_levels_of_macs_are_asked_for_once_for_the_whole_study():
    channels = small({"patterns": ["none", "channel"]})
    macs = small({"patterns": ["none", "channel"], "levelOf": "macs"})
    assert macs.size == channels.size
    found = {s.sparsity.level_of for s in macs.cells() if s.sparsity.level}
    assert found == {LevelOf.MACS}
    assert all(macs.contains(s) for s in macs.cells())
