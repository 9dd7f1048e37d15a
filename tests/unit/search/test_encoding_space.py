"""Where a study tries sparse files, where it does not, and what it says then."""

import re

import pytest
from optuna.trial import FixedTrial
from paretune.search.prior import first_trials
from paretune.search.space import available
from paretune_contract.dataset import Split
from paretune_contract.settings import (
    INTEGER_SCHEMES,
    PATTERNS_WITH_ZEROS,
    LevelOf,
    Scheme,
    Settings,
    SparsityEncoding,
    SparsityPattern,
)
from unit.search.toy_study import OBJECTIVES, intake, spec

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


DOWNLOAD = [{"metric": "accuracy"}, {"metric": "downloadSize"}]


def small(sparsity, objectives=OBJECTIVES, **fields):
    space = {**SMALL, "sparsity": sparsity, **fields.pop("space", {})}
    return available(spec(objectives, space=space, **fields), intake())


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


UNSEEN = [{"metric": "accuracy"}, {"metric": "modelSize"}]


def test_zeros_that_only_sparse_files_show_are_not_tried_among_integers_whose_files_are_dense():
    space = small(ASKED, objectives=UNSEEN)
    pruned = [c for c in space.cells() if c.sparsity.pattern in PATTERNS_WITH_ZEROS]
    assert {c.quantization.scheme for c in pruned} == {Scheme.NONE, Scheme.FLOAT16}
    channels = [c for c in space.cells() if c.sparsity.pattern is SparsityPattern.CHANNEL]
    assert Scheme.INT8 in {c.quantization.scheme for c in channels}
    whys = {w.what: w.why for w in space.withheld}
    assert re.search("integer.* dense.*no objective is downloadSize", whys["sparsity.unstructured"])


@pytest.mark.parametrize(
    ("sparsity", "objectives"),
    [(ASKED, DOWNLOAD), ({**ASKED, "patterns": ["none", "unstructured", "channel"]}, UNSEEN)],
    ids=["seen", "asked for"],
)
def test_zeros_that_are_seen_or_asked_for_are_tried_with_every_scheme(sparsity, objectives):
    space = small(sparsity, objectives=objectives)
    pruned = {c.quantization.scheme for c in space.cells() if c.sparsity.pattern in PATTERNS_WITH_ZEROS}
    assert pruned == {Scheme.NONE, Scheme.FLOAT16, Scheme.INT8}


@pytest.mark.parametrize(
    "fields",
    [
        {"devices": [{"name": "mcu", "runtime": "tflm"}]},
        {"space": {"layers": [{"match": "a", "quantization": {"scheme": "int8"}}]}},
    ],
    ids=["runtime", "layers"],
)
def test_where_no_file_can_be_sparse_zeros_that_only_such_files_show_are_not_tried(fields):
    space = small(ASKED, objectives=UNSEEN, **fields)
    assert space.encodings == (SparsityEncoding.DENSE,)
    assert not PATTERNS_WITH_ZEROS & set(space.patterns)


def test_where_no_zeros_are_tried_all_schemes_share_the_parameter_of_the_pattern():
    space = available(spec(UNSEEN), intake())
    assert "sparsity" in space.distributions
    assert "sparsity/integer" not in space.distributions


def test_patterns_of_integers_have_a_parameter_of_their_own():
    space = small(ASKED, objectives=UNSEEN)
    cells = list(space.cells())
    assert len({cell.digest() for cell in cells}) == len(cells)
    for cell in cells:
        assert space.ask(FixedTrial(space.params_of(cell))) == cell
        integer = cell.quantization.scheme in INTEGER_SCHEMES
        assert ("sparsity/integer" in space.params_of(cell)) is integer
        assert ("sparsity" in space.params_of(cell)) is not integer


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


@pytest.mark.parametrize("scheme", ["none", "float16"])
def test_no_first_trial_is_lost_where_all_sparse_files_are_encoded_so(scheme):
    def first(encodings):
        schemes = {"quantization": {"schemes": [scheme]}}
        found = small({"encodings": encodings}, space=schemes)
        return [s for s, _ in first_trials(found)]

    dense, sparse = first(["dense"]), first(["sparse"])
    assert len(sparse) == len(dense) > 3
    assert any(s.sparsity.encoding is SparsityEncoding.SPARSE for s in sparse)
